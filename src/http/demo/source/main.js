// The page: opens what the address names and connects document, editor, people and indicator.

import { faultOfPageName, home, readAddress, tokenOnlyReads } from './address.js'
import { Connection } from './connection.js'
import { prepareConnectDialog } from './connect.js'
import { preparePageDialog, prepareShareButton } from './dialogs.js'
import { byId } from './elements.js'
import { fillIcons } from './icons.js'
import { Indicator } from './indicator.js'
import { Known } from './known.js'
import { PeopleView } from './people.js'
import { Presence } from './presence.js'
import { prepareThemeButton } from './theme.js'
import { loadUser } from './user.js'

/**
 * @typedef {object} EditorOptions
 * @property {HTMLElement} parent
 * @property {HTMLElement} toolbar
 * @property {import('yjs').Doc} doc
 * @property {import('y-protocols/awareness').Awareness} awareness
 * @property {string} label
 * @property {boolean} editable
 * @property {(names: string[]) => void} onForeign the page holds content that the editor cannot show and has closed itself to spare
 *
 * @typedef {object} OpenedEditor
 * @property {(editable: boolean) => void} setEditable
 * @property {() => void} destroy
 *
 * @typedef {(options: EditorOptions) => OpenedEditor} OpenEditor
 */

/** @type {Record<import('./address.js').Kind, { name: string, load: () => Promise<{ openEditor: OpenEditor }> }>} */
const KINDS = {
  rich: { name: 'Rich text', load: () => import('./rich.js') },
  text: { name: 'Plain text', load: () => import('./plain.js') },
}

const address = readAddress(location.search)
const indicator = new Indicator()
const known = new Known(address)

/** @param {OpenEditor} openEditor @param {PeopleView} people @param {boolean} readOnly */
function open(openEditor, people, readOnly) {
  const host = home(location.href).replace(/^http/, 'ws')
  const connection = new Connection({ host, page: address.page, token: address.token, readOnly })
  const presence = new Presence(connection.awareness, people.user)
  const parent = byId('editor')
  const editor = openEditor({
    parent,
    toolbar: byId('toolbar'),
    doc: connection.doc,
    awareness: connection.awareness,
    label: `Text of the page ${address.page}`,
    editable: !readOnly,
    onForeign: (names) => {
      const list = names.join(', ')
      indicator.showFault(`This page holds content that this editor cannot show (${list}). It is left as it is.`)
      connection.destroy()
    },
  })

  presence.onChange = () => people.show(presence.people)
  presence.onChange()
  connection.awareness.on('change', (/** @type {{ added: number[], removed: number[] }} */ { added, removed }) => {
    if (added.length + removed.length > 0) known.ask()
  })
  people.onUser = (changed) => (presence.user = changed)
  const typed = (/** @type {Uint8Array} */ _update, /** @type {unknown} */ origin) => {
    if (origin === connection.provider) known.ask()
    else if (parent.contains(document.activeElement)) presence.typed()
  }
  connection.doc.on('update', typed)
  const left = () => presence.stoppedTyping()
  parent.addEventListener('focusout', left)

  connection.onChange = () => {
    indicator.show(connection.facts)
    known.follow(connection.facts)
    editor.setEditable(!connection.facts.readOnly && !isForGood(connection.facts.refusal))
  }
  connection.onReadOnly = () => {
    // What was written meanwhile is not on the server and never will be: the page starts anew from what is.
    parent.removeEventListener('focusout', left)
    editor.destroy()
    connection.destroy()
    open(openEditor, people, true)
  }
  indicator.onRetry = () => connection.retry()
  indicator.show(connection.facts)
  onbeforeunload = (event) => {
    if (connection.facts.unsaved) event.preventDefault()
  }
  connection.connect()
}

/** @param {import('./status.js').Refusal | null} refusal */
function isForGood(refusal) {
  return refusal !== null && !refusal.retries
}

async function start() {
  const kind = KINDS[address.kind]
  document.title = `${address.page} · Pageroom`
  byId('page-name').textContent = address.page
  byId('page-kind').textContent = kind.name
  fillIcons()
  prepareThemeButton()
  preparePageDialog(address)
  prepareShareButton(address)
  prepareConnectDialog(address)

  const fault = faultOfPageName(address.page)
  if (fault) return indicator.showFault(`This page cannot be opened. ${fault}`)
  const [user, { openEditor }] = await Promise.all([loadUser(), kind.load()])
  open(openEditor, new PeopleView(user), tokenOnlyReads(address.token, address.page))
}

start()
