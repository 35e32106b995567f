import * as Effect from "effect/Effect"
import { startPostgres, query, postgresUnavailable } from "./postgres.ts"
const t = performance.now(); const at = (s: string) => console.log(s, Math.round(performance.now() - t))
console.log(postgresUnavailable())
await Effect.runPromise(Effect.scoped(Effect.gen(function*() {
  const pg = yield* startPostgres
  at("started")
  const url = yield* pg.createDatabase
  at("db")
  console.log(yield* query(url, "select version()"), yield* query(url, "create table t(a int)"))
  yield* pg.stop; at("stopped")
  console.log(pg.pid(), yield* Effect.exit(query(url, "select 1")).pipe(Effect.map(e => e._tag)))
  yield* pg.start; at("restarted")
  yield* query(url, "insert into t values (1)")
  yield* pg.kill; at("killed")
  yield* pg.start; at("restarted")
  console.log(yield* query(url, "select * from t"))
  if (process.argv[2] === "die") process.kill(process.pid, "SIGKILL")
})))
at("end")
