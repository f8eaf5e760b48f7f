// A table that the server pages: rows of now, a way on and back, and something to read while there is nothing.

import { ApiError, sentence } from './api.js'
import { el, say } from './dom.js'

/**
 * @template Row
 * @typedef {{ title: string, cell: (row: Row) => import('./dom.js').Child, kind?: 'number' | 'short' | 'actions' | 'head' }} Column
 */

/** @template Row @template Cursor */
export class PagedTable {
  #options
  /** Where the pages before this one began. @type {(Cursor | null)[]} */
  #before = []
  /** @type {Cursor | null} */
  #from = null
  /** @type {Cursor | null} */
  #next = null
  #turn = 0
  #body = el('tbody', { role: 'rowgroup' })
  #words = el('p', { class: 'table-words', role: 'status' })
  #back
  #on
  #wrap

  /**
   * @param {{
   *   caption: string, columns: Column<Row>[], key: (row: Row) => string, empty: string,
   *   load: (from: Cursor | null) => Promise<{ rows: Row[], next: Cursor | null }>,
   * }} options
   */
  constructor(options) {
    this.#options = options
    const heads = options.columns.map(({ title, kind }) =>
      el('th', { role: 'columnheader', scope: 'col', class: kind }, kind === 'actions' ? el('span', { class: 'hidden' }, title) : title),
    )
    const table = el(
      'table',
      { role: 'table' },
      el('caption', { class: 'hidden' }, options.caption),
      el('thead', { role: 'rowgroup' }, el('tr', { role: 'row' }, ...heads)),
      this.#body,
    )
    this.#back = el('button', { type: 'button', onclick: () => this.#goBack() }, 'Previous page')
    this.#on = el('button', { type: 'button', onclick: () => this.#goOn() }, 'Next page')
    const pager = el('p', { class: 'pager' }, this.#back, this.#on)
    this.#wrap = el('div', { class: 'table-wrap', 'aria-busy': 'false' }, table, this.#words, pager)
    this.#setPager()
    say(this.#words, 'Loading…')
  }

  get element() {
    return this.#wrap
  }

  /** Begins anew, as when somebody looks for something else. */
  async restart() {
    this.#before = []
    this.#from = null
    await this.refresh()
  }

  /** Reads the same page again. Rows that stay are replaced in their places, and the focus stays where it is. */
  async refresh() {
    const turn = (this.#turn += 1)
    this.#wrap.setAttribute('aria-busy', 'true')
    try {
      const { rows, next } = await this.#options.load(this.#from)
      if (turn !== this.#turn) return
      this.#next = next
      this.#show(rows)
      say(this.#words, rows.length === 0 ? this.#emptyWords() : '')
    } catch (error) {
      if (turn !== this.#turn) return
      if (!(error instanceof ApiError)) throw error
      // What was there stays: it is better than nothing.
      say(this.#words, `This could not be loaded. ${sentence(error)}`)
    } finally {
      if (turn === this.#turn) {
        this.#wrap.setAttribute('aria-busy', 'false')
        this.#setPager()
      }
    }
  }

  /** What is said where there are no rows. The server looks at so much at once, so there may be more behind nothing. */
  #emptyWords() {
    if (this.#next !== null) return 'Nothing so far: there is more to look at.'
    return this.#before.length === 0 ? this.#options.empty : 'Nothing is left on this page.'
  }

  /** @param {Row[]} rows */
  #show(rows) {
    const focused = document.activeElement
    const row = focused?.closest('tr')
    const key = row && this.#body.contains(row) ? row.dataset.key : undefined
    const place = row ? [...row.querySelectorAll('button, a')].indexOf(/** @type {HTMLElement} */ (focused)) : -1
    const known = new Map([...this.#body.rows].map((found) => [found.dataset.key ?? '', found]))
    const shown = rows.map((found) => {
      const made = this.#row(found)
      const old = known.get(made.dataset.key ?? '')
      // A row that says the same is left alone, and with it whatever somebody is about to press.
      return old?.isEqualNode(made) ? old : made
    })
    const same = shown.length === this.#body.rows.length && shown.every((made, at) => made === this.#body.rows[at])
    if (same) return
    this.#body.replaceChildren(...shown)
    const again = shown.find((made) => made.dataset.key === key && key !== undefined)
    const target = again?.querySelectorAll('button, a')[place]
    if (target instanceof HTMLElement) target.focus()
  }

  /** @param {Row} row */
  #row(row) {
    const cells = this.#options.columns.map(({ title, cell, kind }) =>
      el(kind === 'head' ? 'th' : 'td', { role: kind === 'head' ? 'rowheader' : 'cell', scope: kind === 'head' && 'row', class: kind, 'data-title': title }, cell(row)),
    )
    return el('tr', { role: 'row', 'data-key': this.#options.key(row) }, ...cells)
  }

  #setPager() {
    this.#back.disabled = this.#before.length === 0
    this.#on.disabled = this.#next === null
    const pager = /** @type {HTMLElement} */ (this.#back.parentElement)
    pager.hidden = this.#back.disabled && this.#on.disabled
  }

  async #goOn() {
    if (this.#next === null) return
    this.#before.push(this.#from)
    this.#from = this.#next
    await this.refresh()
    if (this.#on.disabled) this.#back.focus()
  }

  async #goBack() {
    this.#from = this.#before.pop() ?? null
    await this.refresh()
    if (this.#back.disabled && !this.#on.disabled) this.#on.focus()
  }
}
