// Asks the server under the admin token, which is kept in this tab alone and never part of an address.

const KEY = 'pageroom.admin.token'
const PATIENCE_MS = 20_000

/** A refusal of the server, or no answer at all. */
export class ApiError extends Error {
  /** @param {number} status 0 when there was no answer @param {string} code @param {string} message a sentence */
  constructor(status, code, message) {
    super(message)
    this.status = status
    this.code = code
  }

  /** Whether the token is no good, or not good enough. */
  get isSignedOut() {
    return this.status === 401 || (this.status === 403 && this.code === 'forbidden')
  }
}

/** @param {unknown} error */
export function sentence(error) {
  const text = error instanceof Error ? error.message : String(error)
  const capital = text.charAt(0).toUpperCase() + text.slice(1)
  return /[.!?]$/.test(capital) ? capital : `${capital}.`
}

export class Api {
  /** @type {string | null} */
  #token = null
  /** The token proves nothing any more. @type {(error: ApiError) => void} */
  onSignedOut = () => {}

  constructor() {
    try {
      this.#token = sessionStorage.getItem(KEY)
    } catch {
      // Without storage one signs in again after each reload.
    }
  }

  get hasToken() {
    return this.#token !== null
  }

  /** @param {string | null} token */
  set token(token) {
    this.#token = token
    try {
      if (token === null) sessionStorage.removeItem(KEY)
      else sessionStorage.setItem(KEY, token)
    } catch {
      // It is in memory then.
    }
  }

  /**
   * Makes a request and reads the JSON that is answered.
   * @param {string} path relative to the server's root @param {{ method?: string, body?: unknown, signal?: AbortSignal }} [options]
   * @returns {Promise<any>}
   */
  async ask(path, { method = 'GET', body, signal } = {}) {
    const timeout = AbortSignal.timeout(PATIENCE_MS)
    const response = await this.#fetch(path, {
      method,
      signal: signal ? AbortSignal.any([signal, timeout]) : timeout,
      headers: body === undefined ? {} : { 'Content-Type': 'application/json' },
      body: body === undefined ? undefined : JSON.stringify(body),
    })
    return response.status === 204 ? null : response.json()
  }

  /** Opens an event stream. @param {string} path @param {AbortSignal} signal */
  async open(path, signal) {
    const response = await this.#fetch(path, { signal, headers: { Accept: 'text/event-stream' } })
    if (!response.body) throw new ApiError(0, 'unavailable', 'the browser cannot read what the server streams')
    return response.body
  }

  /** @param {string} path @param {RequestInit} options */
  async #fetch(path, options) {
    /** @type {Response} */
    let response
    try {
      response = await fetch(new URL(path, document.baseURI), {
        ...options,
        headers: { ...options.headers, Authorization: `Bearer ${this.#token ?? ''}` },
        cache: 'no-store',
        credentials: 'omit',
      })
    } catch (error) {
      if (options.signal?.aborted && options.signal.reason?.name === 'AbortError') throw options.signal.reason
      throw new ApiError(0, 'unavailable', 'The server does not answer')
    }
    if (response.ok) return response
    const refusal = await refusalOf(response)
    if (refusal.isSignedOut) this.onSignedOut(refusal)
    throw refusal
  }
}

/** @param {Response} response */
async function refusalOf(response) {
  const said = await response.json().catch(() => null)
  const { code, message } = said?.error?.code ? said.error : { code: 'unknown', message: said?.error }
  const words = typeof message === 'string' && message ? message : `the server answered ${response.status}`
  return new ApiError(response.status, code, words)
}

/** An id as a part of a path, where `query` alone is something else. @param {string} id */
export function inPath(id) {
  // Browsers take these for steps, however they are written, and would ask for what is above.
  if (id === '.' || id === '..') throw new ApiError(0, 'malformed', `a browser cannot send the id “${id}” as a part of an address, but curl --path-as-is can`)
  return id === 'query' ? '%71uery' : encodeURIComponent(id)
}
