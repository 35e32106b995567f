/** The edge to the backends, played by the test: it decides what undici reports about a request, and when. */
import { Dispatcher } from "undici"
import { BackendConnections } from "../../src/backends/connections/Connections.ts"
import type { Backend } from "../../src/domain/Backend.ts"

/** A request as undici got it. */
export class Sent {
  readonly options: Dispatcher.DispatchOptions
  readonly #handler: Dispatcher.DispatchHandler
  readonly #letsGo: boolean
  readonly controller: Dispatcher.DispatchController
  aborted = false
  started = false
  ended = false

  constructor(options: Dispatcher.DispatchOptions, handler: Dispatcher.DispatchHandler, letsGo: boolean) {
    this.options = options
    this.#handler = handler
    this.#letsGo = letsGo
    const abort = () => this.#onAbort()
    this.controller = {
      get aborted() {
        return false
      },
      get paused() {
        return false
      },
      get reason() {
        return null
      },
      abort,
      pause: () => {},
      resume: () => {}
    }
  }

  #onAbort(): void {
    if (this.aborted || this.ended) return
    this.aborted = true
    if (this.#letsGo) this.fail("UND_ERR_ABORTED")
  }

  /** There is a connection, and the request's head goes out. */
  start(): this {
    this.started = true
    this.#handler.onRequestStart?.(this.controller, null)
    return this
  }

  status(code: number, headers: Record<string, string> = {}): this {
    if (!this.started) this.start()
    this.#handler.onResponseStart?.(this.controller, code, headers)
    return this
  }

  data(chunk: string | Buffer): this {
    this.#handler.onResponseData?.(this.controller, Buffer.from(chunk))
    return this
  }

  end(): this {
    this.ended = true
    this.#handler.onResponseEnd?.(this.controller, {})
    return this
  }

  /** Gives a whole answer. */
  answer(code: number, headers: Record<string, string> = {}): this {
    return this.status(code, headers).end()
  }

  fail(code: string, message = `failed: ${code}`): this {
    this.ended = true
    this.#handler.onResponseError?.(this.controller, Object.assign(new Error(message), { code }))
    return this
  }
}

export class ScriptedDispatcher extends Dispatcher {
  readonly sent: Array<Sent> = []
  /** Called with each request as soon as it comes. */
  onDispatch: (sent: Sent) => void = () => {}
  /** Whether an aborted request ends at once, as undici's do. */
  letsGo = true

  override dispatch(options: Dispatcher.DispatchOptions, handler: Dispatcher.DispatchHandler): boolean {
    const sent = new Sent(options, handler, this.letsGo)
    this.sent.push(sent)
    this.onDispatch(sent)
    return true
  }

  get last(): Sent {
    return this.sent.at(-1)!
  }
}

/** One dispatcher for each origin. */
export class ScriptedConnections {
  readonly #dispatchers = new Map<string, ScriptedDispatcher>()

  to(backend: Backend): ScriptedDispatcher {
    const dispatcher = this.#dispatchers.get(backend.origin) ?? new ScriptedDispatcher()
    this.#dispatchers.set(backend.origin, dispatcher)
    return dispatcher
  }

  readonly service = BackendConnections.of({ dispatcherFor: (backend) => this.to(backend) })
}
