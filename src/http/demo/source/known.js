// Shows what the server knows of this page: the number of its last stored edit, who is connected, and its size.

import { home } from './address.js'
import { byId } from './elements.js'

/** The server is asked again at most this often, and the less often the longer a page takes it. */
const PAUSE_MS = 1_500
const PAUSE_PER_ANSWER = 20
const TIMEOUT_MS = 10_000

/** @param {{ seq?: number, sizeBytes?: number }} metadata none of it where nothing is stored @param {number} people */
export function knownText({ seq, sizeBytes = 0 }, people) {
  const who = `${people} ${people === 1 ? 'person' : 'people'}`
  return seq === undefined ? `Nothing is stored yet · ${who}` : `Saved as edit ${seq} · ${who} · ${sizeText(sizeBytes)}`
}

/** @param {number} bytes */
export function sizeText(bytes) {
  if (bytes < 1_000) return `${bytes} B`
  const [size, unit] = bytes < 999_500 ? [bytes / 1_000, 'KB'] : [bytes / 1_000_000, 'MB']
  return `${size < 9.95 ? size.toFixed(1) : Math.round(size)} ${unit}`
}

export class Known {
  #page
  #api
  /** @type {Record<string, string>} */
  #headers
  #online = false
  #isWanted = false
  /** The server is being asked, or was a moment ago. */
  #isPausing = false

  /** @param {{ page: string, token: string | null }} address */
  constructor({ page, token }) {
    this.#page = page
    this.#api = `${home(location.href)}/api/pages`
    this.#headers = token === null ? {} : { authorization: `Bearer ${token}` }
    document.addEventListener('visibilitychange', () => this.ask())
  }

  /** Looks at what has become of the connection. @param {import('./status.js').Facts} facts */
  follow({ link, unsaved }) {
    this.#online = link === 'online'
    if (!this.#online) byId('known').textContent = ''
    else if (!unsaved) this.ask()
  }

  /** To be called when the server may know something else: it is asked now or soon. */
  ask() {
    if (!this.#online || document.hidden) return
    this.#isWanted = true
    if (!this.#isPausing) this.#fetch()
  }

  async #fetch() {
    this.#isWanted = false
    this.#isPausing = true
    const from = performance.now()
    const text = await this.#look()
    if (this.#online) byId('known').textContent = text
    const pause = Math.max(PAUSE_MS, PAUSE_PER_ANSWER * (performance.now() - from))
    setTimeout(() => {
      this.#isPausing = false
      if (this.#isWanted) this.ask()
    }, pause)
  }

  /** The words for what the server says. */
  async #look() {
    try {
      // Asked for like this, a page that is not there yet is no failure; and no page is read for it.
      const [metadata, presence] = await Promise.all([
        this.#ask('query', { method: 'POST', body: JSON.stringify({ ids: [this.#page] }) }),
        this.#ask(`${encodeURIComponent(this.#page)}/presence`),
      ])
      const isRefused = metadata.error && metadata.error.code !== 'not_found'
      return isRefused ? '' : knownText(metadata, presence.users.length)
    } catch {
      return '' // the indicator says when there is no connection; whoever may not ask is shown nothing
    }
  }

  /** @param {string} path @param {RequestInit} [options] @returns {Promise<any>} */
  async #ask(path, options) {
    const response = await fetch(`${this.#api}/${path}`, {
      ...options,
      headers: { ...this.#headers, 'content-type': 'application/json' },
      cache: 'no-store',
      signal: AbortSignal.timeout(TIMEOUT_MS),
    })
    if (!response.ok) throw new Error(`the server answers ${response.status}`)
    return response.json()
  }
}
