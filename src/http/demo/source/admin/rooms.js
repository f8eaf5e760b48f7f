// Pages that are open, with who is there, how large they are and how much of them was deleted.

import { el, name } from './dom.js'
import { PagedTable } from './paged-table.js'
import { openPage } from './page-dialog.js'
import { Paced } from './views.js'
import { count, deadShare, size } from './words.js'

/** @typedef {import('./views.js').View} View */
/** @typedef {import('./paged-table.js').Column<any>} Column */

/** @param {{ users: { userId: string, name: string | null }[], people: number }} room */
function people({ users, people }) {
  const named = users.slice(0, 3)
  if (people === 0) return el('span', { class: 'quiet-words' }, 'Nobody')
  const shown = el('span', { class: 'people' })
  named.forEach((user, at) => shown.append(at === 0 ? '' : ', ', name(user.name ?? user.userId)))
  if (people > named.length) shown.append(` and ${count(people - named.length)} more`)
  return shown
}

/** @param {{ weight: { liveBytes: number, deadBytes: number } | null }} room */
function dead({ weight }) {
  if (!weight) return '–'
  return `${size(weight.deadBytes)} (${deadShare(weight)} %)`
}

/** @implements {View} */
export class RoomsView {
  title = 'Open pages'
  #prefix = el('input', { id: 'rooms-prefix', type: 'search', autocomplete: 'off', spellcheck: false })
  #table
  #seen = ''
  #soon
  element

  /** @param {import('./api.js').Api} api */
  constructor(api) {
    const open = (/** @type {string} */ page) => openPage(api, page, () => this.#table.refresh())
    /** @type {Column[]} */
    const columns = [
      { title: 'Page', kind: 'head', cell: ({ pageId }) => el('button', { type: 'button', class: 'link', onclick: () => open(pageId) }, name(pageId)) },
      { title: 'People', cell: people },
      { title: 'Members', kind: 'number', cell: ({ state }) => (state ? count(state.members) : 'busy') },
      { title: 'Size', kind: 'number', cell: ({ state }) => (state ? size(state.sizeBytes) : '–') },
      { title: 'Deleted content', kind: 'number', cell: dead },
      { title: 'Not stored', kind: 'number', cell: ({ state }) => (state ? size(state.unstoredBytes) : '–') },
    ]
    this.#table = new PagedTable({
      caption: 'Open pages, in the order of their ids',
      columns,
      key: (/** @type {any} */ { pageId }) => pageId,
      empty: 'No page is open.',
      load: async (/** @type {string | null} */ after) => {
        const query = new URLSearchParams({ prefix: this.#prefix.value })
        if (after !== null) query.set('after', after)
        const { rooms, next } = await api.ask(`api/admin/rooms?${query}`)
        return { rows: rooms, next }
      },
    })
    const form = el(
      'form',
      { class: 'filters', role: 'search', 'aria-label': 'Open pages', onsubmit: (event) => (event.preventDefault(), this.#table.restart()) },
      el('div', {}, el('label', { for: 'rooms-prefix' }, 'Id begins with'), this.#prefix),
      el('button', { type: 'submit' }, 'Show'),
    )
    this.element = el('div', {}, form, this.#table.element)
    this.#soon = new Paced(() => this.element.isConnected && this.#table.refresh(), 2000)
  }

  async show() {
    await this.#table.refresh()
  }

  /** @param {any} overview */
  take({ changes, rooms, totals }) {
    const seen = [changes.people, rooms.open, totals.receivedBytes].join()
    if (this.#seen !== '' && seen !== this.#seen) this.#soon.want()
    this.#seen = seen
  }
}
