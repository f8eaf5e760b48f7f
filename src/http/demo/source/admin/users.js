// Users who are connected, where each of them is, and the ways to send them away.

import { sendOut, signOut } from './actions.js'
import { el, name } from './dom.js'
import { PagedTable } from './paged-table.js'
import { Paced } from './views.js'
import { counted } from './words.js'

/** @typedef {import('./views.js').View} View */
/** @typedef {{ userId: string, name: string | null, sockets: number, roomCount: number, rooms: { room: string, pageId: string | null, seats: number, role: string }[] }} User */

/** @implements {View} */
export class UsersView {
  title = 'People'
  #api
  #user = el('input', { id: 'users-user', type: 'search', autocomplete: 'off', spellcheck: false, maxlength: 255 })
  #table
  #seen = NaN
  #soon
  element

  /** @param {import('./api.js').Api} api */
  constructor(api) {
    this.#api = api
    this.#table = new PagedTable({
      caption: 'Connected users, in the order of their ids',
      columns: [
        { title: 'User', kind: 'head', cell: (user) => this.#who(user) },
        { title: 'Where', cell: (user) => this.#where(user) },
        { title: 'What can be done', kind: 'actions', cell: ({ userId }) => this.#button(`Sign out ${userId}`, 'Sign out', () => signOut(api, userId)) },
      ],
      key: ({ userId }) => userId,
      empty: 'Nobody who has a name is connected. Guests are not listed here.',
      load: async (/** @type {string | null} */ after) => this.#load(after),
    })
    const form = el(
      'form',
      { class: 'filters', role: 'search', 'aria-label': 'Connected users', onsubmit: (event) => (event.preventDefault(), this.#table.restart()) },
      el('div', {}, el('label', { for: 'users-user' }, 'User id'), this.#user),
      el('button', { type: 'submit' }, 'Find'),
    )
    this.element = el('div', {}, form, this.#table.element)
    this.#soon = new Paced(() => this.element.isConnected && this.#table.refresh(), 1000)
  }

  /** @param {string | null} after @returns {Promise<{ rows: User[], next: string | null }>} */
  async #load(after) {
    const wanted = this.#user.value.trim()
    const query = new URLSearchParams(wanted ? { user: wanted } : {})
    if (after !== null) query.set('after', after)
    const { users, next } = await this.#api.ask(`api/admin/users?${query}`)
    // Whoever is not here may be somewhere else, and can be signed out all the same.
    const absent = { userId: wanted, name: null, sockets: 0, roomCount: 0, rooms: [] }
    return { rows: wanted && users.length === 0 ? [absent] : users, next }
  }

  /** @param {User} user */
  #who({ userId, name: shown }) {
    return el('span', { class: 'who' }, name(shown ?? userId), shown ? el('span', { class: 'quiet-words' }, name(userId)) : null)
  }

  /** @param {User} user */
  #where({ userId, sockets, roomCount, rooms }) {
    if (roomCount === 0) return el('span', { class: 'quiet-words' }, sockets > 0 ? 'Connected, in no room' : 'Not connected to this server')
    const list = el('ul', { class: 'places' })
    for (const { room, pageId, seats, role } of rooms) {
      const shown = pageId ?? room
      const words = el('span', { class: 'place' }, name(shown), el('span', { class: 'quiet-words' }, `${role}, ${counted(seats, 'connection')}`))
      list.append(el('li', {}, words, this.#button(`Send out ${userId} from ${shown}`, 'Send out', () => sendOut(this.#api, userId, room, shown))))
    }
    if (roomCount > rooms.length) list.append(el('li', { class: 'quiet-words' }, `and ${counted(roomCount - rooms.length, 'more room')}`))
    return list
  }

  /** @param {string} label @param {string} text @param {() => Promise<boolean>} work */
  #button(label, text, work) {
    return el('button', { type: 'button', class: 'small', 'aria-label': label, onclick: async () => (await work()) && this.#table.refresh() }, text)
  }

  async show() {
    await this.#table.refresh()
  }

  /** @param {any} overview */
  take({ changes }) {
    if (changes.people !== this.#seen && !Number.isNaN(this.#seen)) this.#soon.want()
    this.#seen = changes.people
  }
}
