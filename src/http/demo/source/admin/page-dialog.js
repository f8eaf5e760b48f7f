// One page: what it weighs, who is there, and who may do what with it.

import { byId } from '../elements.js'
import { grant, moveToTrash, revoke, sendOut, whom } from './actions.js'
import { ApiError, inPath, sentence } from './api.js'
import { el, name, say } from './dom.js'
import { PagedTable } from './paged-table.js'
import { count, counted, deadShare, moment, size } from './words.js'

const ROLES = ['view', 'comment', 'edit', 'admin']

/** @param {import('./api.js').Api} api @param {string} page @param {() => void} onChanged */
export async function openPage(api, page, onChanged) {
  const dialog = /** @type {HTMLDialogElement} */ (byId('page-dialog'))
  const body = byId('page-body')
  const words = el('p', { role: 'status' }, 'Loading…')
  const facts = el('dl', { class: 'facts' })
  const present = el('ul', { class: 'places' })
  const permissions = permissionsOf(api, page)

  const describe = async () => {
    try {
      const [about, { users }] = await Promise.all([api.ask(`api/pages/${inPath(page)}`), api.ask(`api/pages/${inPath(page)}/presence`)])
      facts.replaceChildren(...factsOf(about))
      present.replaceChildren(...users.map((/** @type {any} */ user) => presentUser(user)))
      say(words, users.length === 0 ? 'Nobody is there.' : '')
    } catch (error) {
      if (!(error instanceof ApiError)) throw error
      say(words, `This could not be loaded. ${sentence(error)}`)
    }
  }

  /** @param {{ userId: string, name: string | null, connections: number, since: string, typing: boolean }} user */
  const presentUser = (user) => {
    const what = `${counted(user.connections, 'connection')}, since ${moment(user.since)}${user.typing ? ', typing' : ''}`
    const shown = el('span', { class: 'place' }, name(user.name ?? user.userId), el('span', { class: 'quiet-words' }, what))
    const isGuest = user.userId.startsWith('guest:')
    const away = el(
      'button',
      { type: 'button', class: 'small', 'aria-label': `Send out ${user.userId} from ${page}`, onclick: async () => (await sendOut(api, user.userId, `page:${page}`, page)) && describe() },
      'Send out',
    )
    return el('li', {}, shown, isGuest ? null : away)
  }

  const toTrash = async () => {
    if (!(await moveToTrash(api, page))) return
    dialog.close()
    onChanged()
  }

  body.replaceChildren(
    el('h2', { id: 'page-title', tabindex: -1, autofocus: true }, name(page)),
    facts,
    el('h3', {}, 'Who is there'),
    words,
    present,
    el('h3', {}, 'Roles that are set here'),
    permissions.element,
    el(
      'p',
      { class: 'buttons' },
      el('button', { type: 'button', class: 'danger-quiet', onclick: toTrash }, 'Move to the trash'),
      el('button', { type: 'button', onclick: () => dialog.close() }, 'Close'),
    ),
  )
  dialog.showModal()
  await Promise.all([describe(), permissions.refresh()])
}

/** @param {any} about */
function factsOf(about) {
  const { weight } = about
  /** @type {[string, string][]} */
  const facts = [
    ['Size', size(about.sizeBytes)],
    ['Live content', size(weight.liveBytes)],
    ['Deleted content', `${size(weight.deadBytes)} (${deadShare(weight)} %)`],
    ['Pieces', count(weight.structs)],
    ['Clients', count(weight.clients)],
    ['History', size(about.historyBytes)],
    ['Connections', count(about.connections)],
    ['Stored up to', `number ${count(about.seq)}`],
    ['Changed', moment(about.updatedAt)],
  ]
  return facts.map(([term, value]) => el('div', {}, el('dt', {}, term), el('dd', {}, value)))
}

/** @param {import('./api.js').Api} api @param {string} page */
function permissionsOf(api, page) {
  const table = new PagedTable({
    caption: `Roles on ${page}`,
    columns: [
      { title: 'User', kind: 'head', cell: (/** @type {any} */ { userId }) => name(whom(userId)) },
      { title: 'Role', cell: ({ role }) => role },
      { title: 'Until', cell: ({ expiresAt }) => (expiresAt ? moment(expiresAt) : 'taken away') },
      {
        title: 'What can be done',
        kind: 'actions',
        cell: ({ userId }) =>
          el(
            'button',
            { type: 'button', class: 'small', 'aria-label': `Take away the role of ${whom(userId)}`, onclick: async () => (await revoke(api, page, userId)) && table.refresh() },
            'Take away',
          ),
      },
    ],
    key: ({ userId }) => userId,
    empty: 'No role is set here. Tokens and other sources may give some.',
    load: async (/** @type {string | null} */ after) => {
      const query = new URLSearchParams({ limit: '10' })
      if (after !== null) query.set('after', after)
      const { permissions, next } = await api.ask(`api/pages/${inPath(page)}/permissions?${query}`)
      return { rows: permissions, next }
    },
  })
  const user = el('input', { id: 'grant-user', required: true, maxlength: 255, autocomplete: 'off', spellcheck: false, 'aria-describedby': 'grant-hint' })
  const role = el('select', { id: 'grant-role' }, ...ROLES.map((known) => el('option', { selected: known === 'edit' }, known)))
  const form = el(
    'form',
    {
      class: 'filters',
      'aria-label': 'Set a role',
      onsubmit: async (event) => {
        event.preventDefault()
        if (!(await grant(api, page, user.value, role.value))) return
        user.value = ''
        await table.refresh()
      },
    },
    el('div', {}, el('label', { for: 'grant-user' }, 'User id'), user),
    el('div', {}, el('label', { for: 'grant-role' }, 'Role'), role),
    el('button', { type: 'submit' }, 'Set the role'),
    el('p', { id: 'grant-hint', class: 'hint' }, '* is everybody.'),
  )
  return { element: el('div', {}, table.element, form), refresh: () => table.refresh() }
}
