// All pages that are stored, or those in the trash.

import { moveToTrash, restore } from './actions.js'
import { el, name } from './dom.js'
import { PagedTable } from './paged-table.js'
import { openPage } from './page-dialog.js'
import { moment, size } from './words.js'

/** @typedef {import('./views.js').View} View */
/** @typedef {{ pageId: string, sizeBytes: number, updatedAt: string, deletedAt?: string }} Page */

/** @implements {View} */
export class PagesView {
  title = 'All pages'
  #prefix = el('input', { id: 'pages-prefix', type: 'search', autocomplete: 'off', spellcheck: false })
  #place = el('select', { id: 'pages-place' }, el('option', { value: 'false' }, 'In use'), el('option', { value: 'true' }, 'In the trash'))
  #table
  element

  /** @param {import('./api.js').Api} api */
  constructor(api) {
    this.#table = new PagedTable({
      caption: 'Stored pages, in the order of their ids',
      columns: [
        {
          title: 'Page',
          kind: 'head',
          cell: (/** @type {Page} */ { pageId, deletedAt }) =>
            deletedAt ? name(pageId) : el('button', { type: 'button', class: 'link', onclick: () => openPage(api, pageId, () => this.#table.refresh()) }, name(pageId)),
        },
        { title: 'Size', kind: 'number', cell: ({ sizeBytes }) => size(sizeBytes) },
        { title: 'Changed', cell: ({ updatedAt }) => moment(updatedAt) },
        { title: 'In the trash since', cell: ({ deletedAt }) => (deletedAt ? moment(deletedAt) : '–') },
        { title: 'What can be done', kind: 'actions', cell: (page) => this.#action(api, page) },
      ],
      key: ({ pageId }) => pageId,
      empty: 'There is no such page.',
      load: async (/** @type {string | null} */ after) => {
        const query = new URLSearchParams({ prefix: this.#prefix.value, deleted: this.#place.value, limit: '25' })
        if (after !== null) query.set('after', after)
        const { pages, next } = await api.ask(`api/pages?${query}`)
        return { rows: pages, next }
      },
    })
    this.#place.addEventListener('change', () => this.#table.restart())
    const form = el(
      'form',
      { class: 'filters', role: 'search', 'aria-label': 'Stored pages', onsubmit: (event) => (event.preventDefault(), this.#table.restart()) },
      el('div', {}, el('label', { for: 'pages-prefix' }, 'Id begins with'), this.#prefix),
      el('div', {}, el('label', { for: 'pages-place' }, 'Which'), this.#place),
      el('button', { type: 'submit' }, 'Show'),
    )
    this.element = el('div', {}, form, this.#table.element)
  }

  /** @param {import('./api.js').Api} api @param {Page} page */
  #action(api, { pageId, deletedAt }) {
    const [label, text, work] = deletedAt
      ? [`Restore ${pageId}`, 'Restore', () => restore(api, pageId)]
      : [`Move ${pageId} to the trash`, 'To the trash', () => moveToTrash(api, pageId)]
    return el('button', { type: 'button', class: 'small', 'aria-label': label, onclick: async () => (await work()) && this.#table.refresh() }, text)
  }

  async show() {
    await this.#table.refresh()
  }

  take() {}
}
