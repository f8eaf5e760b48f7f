// What was done and refused, looked for by who, what, where and when.

import { el, name } from './dom.js'
import { PagedTable } from './paged-table.js'
import { Paced } from './views.js'
import { moment, rfc3339 } from './words.js'

/** @typedef {import('./views.js').View} View */
/** @typedef {{ id: number, at: string, action: string, outcome: string, userId: string | null, pageId: string | null, address: string | null, detail: string }} Entry */

/** Fields of the form: the parameter, its label, what kind of field it is. @type {[string, string, string][]} */
const FIELDS = [
  ['user', 'User id', 'search'],
  ['page', 'Page or room', 'search'],
  ['action', 'Action', 'search'],
  ['outcome', 'Outcome', 'search'],
  ['from', 'From', 'datetime-local'],
  ['to', 'Before', 'datetime-local'],
]

/** @implements {View} */
export class AuditView {
  title = 'Audit'
  #table
  #seen = NaN
  #soon
  #isFirstPage = true
  element

  /** @param {import('./api.js').Api} api */
  constructor(api) {
    const inputs = FIELDS.map(([field, , type]) => el('input', { id: `audit-${field}`, type, autocomplete: 'off', spellcheck: false, maxlength: 255 }))
    this.#table = new PagedTable({
      caption: 'What was done and refused, the newest first',
      columns: [
        { title: 'When', kind: 'head', cell: (/** @type {Entry} */ { at }) => el('time', { datetime: at }, moment(at)) },
        { title: 'Action', kind: 'short', cell: ({ action }) => action },
        { title: 'Outcome', kind: 'short', cell: ({ outcome }) => el('span', { class: 'outcome', 'data-outcome': outcome === 'ok' ? 'ok' : 'refused' }, outcome) },
        { title: 'User', cell: ({ userId }) => (userId ? name(userId) : '–') },
        { title: 'Page or room', cell: ({ pageId }) => (pageId ? name(pageId) : '–') },
        { title: 'Address', kind: 'short', cell: ({ address }) => address ?? '–' },
        { title: 'Detail', cell: ({ detail }) => (detail ? name(detail) : '–') },
      ],
      key: ({ id }) => String(id),
      empty: 'Nothing was noted that fits.',
      load: async (/** @type {number | null} */ before) => {
        this.#isFirstPage = before === null
        const query = new URLSearchParams({ limit: '25' })
        FIELDS.forEach(([field, , type], at) => {
          const value = type === 'datetime-local' ? rfc3339(inputs[at].value) : inputs[at].value.trim()
          if (value) query.set(field, value)
        })
        if (before !== null) query.set('before', String(before))
        const { entries, next } = await api.ask(`api/audit?${query}`)
        return { rows: entries, next }
      },
    })
    const form = el(
      'form',
      {
        class: 'filters',
        role: 'search',
        'aria-label': 'Audit',
        onsubmit: (event) => (event.preventDefault(), this.#table.restart()),
        onreset: () => setTimeout(() => this.#table.restart()),
      },
      ...FIELDS.map(([field, label], at) => el('div', {}, el('label', { for: `audit-${field}` }, label), inputs[at])),
      el('button', { type: 'submit' }, 'Search'),
      el('button', { type: 'reset' }, 'Clear'),
    )
    this.element = el('div', {}, form, this.#table.element)
    this.#soon = new Paced(() => this.element.isConnected && this.#isFirstPage && this.#table.refresh(), 2000)
  }

  async show() {
    await this.#table.refresh()
  }

  /** @param {any} overview */
  take({ changes }) {
    if (changes.audit !== this.#seen && !Number.isNaN(this.#seen)) this.#soon.want()
    this.#seen = changes.audit
  }
}
