import { findBinaries } from "./Binaries.ts"
import { postgresUnavailable, type RunPostgres, runVariable } from "./Postgres.ts"
import { Server } from "./Server.ts"

/** Starts one server for a whole run of tests, and makes the files that a test's own server begins with. */
export const setup = async (): Promise<() => Promise<void>> => {
  const binaries = findBinaries()
  if (binaries === undefined) {
    tell({ unavailable: true })
    postgresUnavailable()
    return () => Promise.resolve()
  }
  const server = new Server(binaries, undefined)
  await server.initialise()
  const template = await server.keepTemplate()
  await server.start()
  tell({ binaries, template, shared: server.address })
  return () => server.dispose()
}

const tell = (postgres: RunPostgres): void => {
  process.env[runVariable] = JSON.stringify(postgres)
}
