/** Checks what the demo promises against what happened. */
import type { Row } from "./Row.ts"

export interface Check {
  readonly promise: string
  /** Empty: the promise was kept. */
  readonly problems: ReadonlyArray<string>
}

export const checks = (rows: ReadonlyArray<Row>, backends: ReadonlyArray<string>): ReadonlyArray<Check> => {
  const ours = rows.flatMap(ourOwn)
  const genuine = ours.filter(({ sent }) => sent.delivery.expected.refusal === undefined)
  const unwelcome = ours.filter(({ sent }) => sent.delivery.expected.refusal !== undefined)
  const retried = genuine.flatMap(({ arrivals }) => arrivals.filter(({ status }) => status === 503)).length
  return [
    {
      promise:
        `${genuine.length} deliveries × ${backends.length} backends: each arrived once, byte for byte, signature valid`,
      problems: genuine.flatMap((row) => notArrivedOnce(row, backends))
    },
    {
      promise: `${retried} answers of 503 were retried until the backend was ready`,
      problems: retried === 0 ? ["there was no 503 to retry"] : []
    },
    {
      promise: `${unwelcome.length} refused requests reached no backend`,
      problems: unwelcome.flatMap((row) =>
        row.arrivals.map(({ backend }) => `${row.label}: it reached ${backend}`).concat(
          row.refusal === row.sent.delivery.expected.refusal ? [] : [`${row.label}: refused as ${row.refusal}`]
        )
      )
    },
    {
      promise: "GitHub got the reply it should get, every time",
      problems: ours.flatMap(wrongReply)
    }
  ]
}

/** Checks the deliveries that a server with a store got while a backend was down. */
export const storedChecks = (rows: ReadonlyArray<Row>, backends: ReadonlyArray<string>, down: string): Check => {
  const stored = rows.flatMap(ourOwn).filter(({ sent }) => sent.delivery.expected.arrivals !== undefined)
  return {
    promise: `${stored.length} deliveries were answered while ${down} was down; it got each once when it came up`,
    problems: stored.flatMap((row) => wrongReply(row).concat(notArrivedOnce(row, backends)))
  }
}

/** Checks the deliveries that failed at GitHub while nobody was there. `askedFor` has what GitHub was asked for. */
export const recoveredChecks = (
  missed: ReadonlyArray<Row>,
  backends: ReadonlyArray<string>,
  askedFor: ReadonlyArray<string>
): Check => ({
  promise: `${missed.length} deliveries that failed at GitHub were asked for once, and each backend got each once`,
  problems: missed.flatMap(ourOwn).flatMap((row) =>
    wrongReply(row).concat(notArrivedOnce(row, backends), notAskedForOnce(row, askedFor))
  )
})

type OwnRow = Row & { readonly sent: NonNullable<Row["sent"]> }

const ourOwn = (row: Row): ReadonlyArray<OwnRow> => row.sent === undefined ? [] : [{ ...row, sent: row.sent }]

const notArrivedOnce = (row: OwnRow, backends: ReadonlyArray<string>): ReadonlyArray<string> =>
  backends.flatMap((backend) => {
    const accepted = row.arrivals.filter((arrival) => arrival.backend === backend && arrival.status === 202)
    if (accepted.length !== 1) return [`${row.label}: ${backend} got it ${accepted.length} times`]
    if (accepted[0]!.digest !== row.sent.digest) return [`${row.label}: ${backend} got other bytes`]
    return accepted[0]!.verified ? [] : [`${row.label}: ${backend} could not verify the signature`]
  })

const notAskedForOnce = ({ guid, label }: OwnRow, askedFor: ReadonlyArray<string>): ReadonlyArray<string> => {
  const { length } = askedFor.filter((one) => one === guid)
  return length === 1 ? [] : [`${label}: GitHub was asked for it ${length} times`]
}

const wrongReply = ({ label, reply, sent: { delivery: { expected } } }: OwnRow): ReadonlyArray<string> =>
  reply?.status === expected.status && reply.text === expected.text
    ? []
    : [`${label}: ${reply === undefined ? "no reply" : `${reply.status} ${reply.text}`}`]
