// The server itself: its end, and what it logs.

import { el, say } from './dom.js'
import { attempt, confirmed } from './tell.js'
import { duration } from './words.js'

/** @typedef {import('./views.js').View} View */

const LEVELS = ['error', 'warn', 'info', 'debug', 'trace']

/** @param {import('./api.js').Api} api */
export function callOffDrain(api) {
  return attempt(async () => {
    await api.ask('api/admin/drain', { method: 'DELETE' })
    return 'The drain is called off. Everybody is let in again.'
  })
}

/** @implements {View} */
export class ServerView {
  title = 'Server'
  #seconds = el('input', { id: 'drain-seconds', type: 'number', min: 0, max: 3600, value: 30, required: true, 'aria-describedby': 'drain-hint' })
  #begin = el('button', { type: 'submit', class: 'danger' }, 'Drain this server')
  #log = el('p', { class: 'log-now' })
  #filter = el('input', { id: 'log-filter', required: true, maxlength: 1024, autocomplete: 'off', autocapitalize: 'none', spellcheck: false, 'aria-describedby': 'log-hint' })
  #reset
  element

  /** @param {import('./api.js').Api} api */
  constructor(api) {
    const drain = el(
      'form',
      { class: 'filters', 'aria-label': 'Drain', onsubmit: (event) => (event.preventDefault(), this.#drain(api)) },
      el('div', {}, el('label', { for: 'drain-seconds' }, 'Seconds until it stops'), this.#seconds),
      this.#begin,
      el('p', { id: 'drain-hint', class: 'hint' }, 'Up to 3600. Until then it can be called off.'),
    )
    const levels = LEVELS.map((level) => el('button', { type: 'button', class: 'small', onclick: () => this.#setFilter(level) }, level))
    this.#reset = el('button', { type: 'button', onclick: () => this.#giveBack(api) }, 'Back to the settings')
    const log = el(
      'form',
      { class: 'filters', 'aria-label': 'Log', onsubmit: (event) => (event.preventDefault(), this.#setLog(api)) },
      el('div', { class: 'grows' }, el('label', { for: 'log-filter' }, 'Level, or levels of parts'), this.#filter),
      el('button', { type: 'submit' }, 'Change the log'),
      this.#reset,
      el('div', { class: 'levels', role: 'group', 'aria-label': 'Levels to begin with' }, ...levels),
      el('p', { id: 'log-hint', class: 'hint' }, 'As in ', el('code', {}, 'info,pageroom::access=debug'), '. It counts until the server ends, or until it is given back.'),
    )
    this.element = el(
      'div',
      { class: 'stack' },
      el(
        'section',
        { class: 'card', 'aria-label': 'Drain' },
        el('h3', {}, 'Drain'),
        el('p', {}, 'Nobody new is let in from then on, and load balancers see that the server is not ready. Whoever is here goes on. When the time is over the server stores everything, asks its clients to come back, and ends, as on SIGTERM.'),
        drain,
      ),
      el('section', { class: 'card', 'aria-label': 'Log' }, el('h3', {}, 'Log'), this.#log, log),
    )
  }

  async show() {}

  /** @param {any} overview */
  take({ log, drain }) {
    this.#begin.disabled = drain?.stopping ?? false
    this.#reset.disabled = !log?.changed
    if (!log) return say(this.#log, 'The log belongs to the program that this server is part of, and is not changed here.')
    say(this.#log, log.changed ? `Logged now: ${log.filter}. The settings say ${log.configured}.` : `Logged now: ${log.filter}, as the settings say.`)
  }

  /** @param {string} level */
  #setFilter(level) {
    this.#filter.value = level
    this.#filter.focus()
  }

  /** @param {import('./api.js').Api} api */
  async #drain(api) {
    const seconds = Number(this.#seconds.value)
    const sure = await confirmed({
      title: seconds === 0 ? 'Stop this server now?' : `Stop this server in ${duration(seconds)}?`,
      text: 'Nobody new is let in from now on. Then its members are asked to come back, and the process ends. Unless something starts it again, it stays away.',
      yes: seconds === 0 ? 'Stop it now' : 'Begin the drain',
    })
    if (!sure) return
    await attempt(async () => {
      await api.ask('api/admin/drain', { method: 'POST', body: { seconds } })
      return seconds === 0 ? 'The server stops.' : `The server stops in ${duration(seconds)}. Nobody new is let in.`
    })
  }

  /** @param {import('./api.js').Api} api */
  async #setLog(api) {
    await attempt(async () => {
      const { filter } = await api.ask('api/admin/log-level', { method: 'PUT', body: { filter: this.#filter.value } })
      return `Logged from now on: ${filter}.`
    })
  }

  /** @param {import('./api.js').Api} api */
  async #giveBack(api) {
    await attempt(async () => {
      const { filter } = await api.ask('api/admin/log-level', { method: 'DELETE' })
      return `Logged from now on: ${filter}, as the settings say.`
    })
  }
}
