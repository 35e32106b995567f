/**
 * A GitHub App: its keys, its webhook, its log, and how GitHub treats it.
 *
 * **Details**
 *
 * GitHub sends a delivery once, and again only if somebody asks for it: with the same GUID, headers and bytes. Its fields
 * that are no `readonly` are switches, which a test may set at any time.
 */
import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject } from "node:crypto"
import { type Attempt, Attempts, type Ending } from "./Attempts.ts"
import type { Delivery } from "./Delivery.ts"
import { type HookIdentity, hookIdentity } from "./Headers.ts"
import { post, timedOut, timeLimit } from "./Hook.ts"
import type { Trouble } from "./Troubles.ts"

export type RequestKind = "app" | "config" | "page" | "detail" | "redelivery" | "unknown"

/** A request to the API. */
export interface ApiRequest {
  readonly kind: RequestKind
  /** Path and query. */
  readonly target: string
  readonly status: number
  /** The delivery that it is about, if there is one. */
  readonly guid: string | undefined
  /** By GitHub's clock. */
  readonly at: number
  /** The API's port that it came to. */
  readonly port: number
}

interface Planned {
  readonly trouble: Trouble
  readonly kind: RequestKind | undefined
  times: number
}

export interface AppOptions {
  /** GitHub's clock, in epoch milliseconds. */
  readonly now?: () => number
  readonly identity?: HookIdentity
  /** Milliseconds until GitHub gives an attempt up. */
  readonly timeLimit?: number
}

/** When it was attempted; now, unless given. */
interface Circumstances {
  readonly at?: number
  readonly redelivery?: boolean
}

/** A key of one process is good for all its Apps: making one takes long. */
let firstKey: KeyObject | undefined
const newKey = (): KeyObject => generateKeyPairSync("rsa", { modulusLength: 2_048 }).privateKey

export class App {
  readonly identity: HookIdentity
  readonly clientId = "Iv23liA1b2C3d4E5f6G7"
  readonly log = new Attempts()
  readonly requests: Array<ApiRequest> = []
  /** The requests of this hour that count towards the limit. */
  readonly hour = { used: 0, endsAt: 0 }
  readonly #timeLimit: number
  readonly #now: () => number
  readonly #underWay = new Set<Promise<unknown>>()
  readonly #planned: Array<Planned> = []
  #keys: ReadonlyArray<KeyObject> = [firstKey ??= newKey()]

  /** Undefined: the App has no webhook. */
  hookUrl: string | undefined
  suspended = false
  /** Milliseconds by which GitHub's clock is ahead. */
  skew = 0
  /** Requests in an hour. Undefined: there is no limit, as on many GitHub Enterprise Servers. */
  limit: number | undefined = 5_000
  /** The longest page, even if more is asked for. */
  longestPage = 100
  /** Milliseconds until the log shows an attempt. */
  listedAfter = 0
  /** Milliseconds until the detail of a listed attempt is found. */
  detailedAfter = 0
  /** Milliseconds for which GitHub has held a delivery back. */
  throttledFor: number | undefined
  /** GitHub gives these up as timed out, whatever was answered. */
  timesOut: (delivery: Delivery) => boolean = () => false
  /** A request for these is accepted, and nothing comes of it. */
  dropsRedelivery: (delivery: Delivery) => boolean = () => false

  constructor({ identity = hookIdentity, now = Date.now, timeLimit: limit = timeLimit }: AppOptions = {}) {
    this.identity = identity
    this.#now = now
    this.#timeLimit = limit
  }

  now(): number {
    return this.#now() + this.skew
  }

  /** The private key, as GitHub hands it out (PKCS#1), or as other tools write it. */
  privateKey(type: "pkcs1" | "pkcs8" = "pkcs1"): string {
    return this.#keys.at(-1)!.export({ type, format: "pem" }).toString()
  }

  get publicKeys(): ReadonlyArray<KeyObject> {
    return this.#keys.map((key) => createPublicKey(key))
  }

  /** A new key for the App. The old one is good until it is deleted. */
  addKey(pem?: string): void {
    this.#keys = [...this.#keys, pem === undefined ? newKey() : createPrivateKey(pem)]
  }

  deleteOldKeys(): void {
    this.#keys = this.#keys.slice(-1)
  }

  /** Sends a delivery, and resolves when the attempt is in the log. */
  async deliver(delivery: Delivery, circumstances: Circumstances = {}): Promise<Attempt> {
    if (this.hookUrl === undefined) throw new Error("the App has no webhook")
    const { at = this.now() } = circumstances
    const ending = await this.#keeping(post(this.hookUrl, delivery, this.#timeLimit))
    return this.record(delivery, this.timesOut(delivery) ? timedOut(this.#timeLimit) : ending, { ...circumstances, at })
  }

  /** Puts an attempt into the log that nobody saw. */
  record(delivery: Delivery, ending: Ending, { at = this.now(), redelivery = false }: Circumstances = {}): Attempt {
    return this.log.add({
      ...ending,
      delivery,
      deliveredAt: at,
      redelivery,
      throttledAt: this.throttledFor === undefined ? undefined : at - this.throttledFor,
      url: this.hookUrl ?? "",
      listedAt: this.now() + this.listedAfter
    })
  }

  /** A person asks for it on GitHub's page. */
  redeliver(guid: string): Promise<Attempt> {
    const attempt = this.log.all.find(({ delivery }) => delivery.guid === guid)
    if (attempt === undefined) throw new Error(`there is no delivery ${guid}`)
    return this.deliver(attempt.delivery, { redelivery: true })
  }

  /** Accepts a request for a delivery, and sends it some time after the answer. */
  accept({ delivery }: Attempt): void {
    if (this.dropsRedelivery(delivery)) return
    void this.#keeping(
      new Promise((resolve) => setImmediate(resolve)).then(() => this.deliver(delivery, { redelivery: true }))
    )
  }

  /** Resolves when nothing that was begun is under way. */
  async quiet(): Promise<void> {
    // oxlint-disable-next-line no-await-in-loop -- the end of one may be the beginning of another
    while (this.#underWay.size > 0) await Promise.all(this.#underWay)
  }

  async #keeping<A>(work: Promise<A>): Promise<A> {
    this.#underWay.add(work)
    try {
      return await work
    } finally {
      this.#underWay.delete(work)
    }
  }

  /** Answers the next requests (of a kind) with trouble. */
  trouble(trouble: Trouble, { kind, times = 1 }: { readonly kind?: RequestKind; readonly times?: number } = {}): void {
    this.#planned.push({ trouble, kind, times })
  }

  /** The trouble for a request, used up once. */
  nextTrouble(kind: RequestKind): Trouble | undefined {
    const planned = this.#planned.find((one) => one.times > 0 && (one.kind ?? kind) === kind)
    if (planned !== undefined) planned.times -= 1
    return planned?.trouble
  }

  count(kind: RequestKind): number {
    return this.requests.filter((request) => request.kind === kind).length
  }

  /** The GUIDs for whose redelivery the API was asked, in that order. */
  get askedFor(): ReadonlyArray<string> {
    return this.requests.flatMap(({ guid, kind }) => kind === "redelivery" && guid !== undefined ? [guid] : [])
  }
}
