// Shows the status: the words in the header, the notice below, and what a screen reader is told.

import { byId } from './elements.js'
import { icon } from './icons.js'
import { announcementOf, statusOf } from './status.js'

/** "Saving…" stays at least this long: a fast server's confirmations would make the words flicker. "Saved" may be late, never early. */
const SAVING_LASTS_MS = 400

export class Indicator {
  /** @type {import('./status.js').Status} */
  #status = { kind: 'connecting', label: 'Connecting…', notice: null, action: false }
  /** @type {import('./status.js').Status['kind']} what a screen reader was told last */
  #told = 'saved'
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer
  onRetry = () => {}

  constructor() {
    byId('notice-action').addEventListener('click', () => this.onRetry())
    this.#draw()
  }

  /** @param {import('./status.js').Facts} facts */
  show(facts) {
    const status = statusOf(facts)
    const settles = this.#status.kind === 'saving' && status.kind === 'saved'
    this.#status = status
    clearTimeout(this.#timer)
    if (settles) this.#timer = setTimeout(() => this.#draw(), SAVING_LASTS_MS)
    else this.#draw()
    const announcement = announcementOf(this.#told, status)
    if (announcement === null) return
    this.#told = status.kind
    byId('announcement').textContent = announcement
  }

  /** A fault that ends everything. @param {string} sentence */
  showFault(sentence) {
    this.#status = { kind: 'refused', label: 'Not connected', notice: sentence, action: false }
    this.#draw()
    byId('announcement').textContent = sentence
  }

  #draw() {
    const { kind, label, notice, action } = this.#status
    const indicator = byId('indicator')
    if (indicator.dataset.kind !== kind || !byId('indicator-icon').firstChild) {
      byId('indicator-icon').replaceChildren(icon(kind))
    }
    indicator.dataset.kind = kind
    byId('indicator-label').textContent = label
    byId('notice').hidden = notice === null
    byId('notice').dataset.kind = kind
    if (notice !== null) byId('notice-text').textContent = notice
    byId('notice-action').hidden = !action
  }
}
