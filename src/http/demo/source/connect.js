// The panel that says how to connect an editor of one's own to this page: its address, and the line for each client.

import { home, socketPath } from './address.js'
import { copy } from './dialogs.js'
import { byId } from './elements.js'

const COPIED_MS = 2_000

/**
 * What to write for each client. `token` stands for a variable of the reader's program.
 * @param {{ home: string, page: string, token: string | null }} at
 * @returns {{ client: string, line: string }[]}
 */
export function lines({ home, page, token }) {
  const ws = home.replace(/^http/, 'ws')
  const { origin, pathname } = new URL(home)
  const name = quoted(page)
  const inPath = quoted(socketPath(page))
  // Socket.IO takes a path of an address for a namespace.
  const path = pathname === '/' ? null : `path: ${quoted(`${pathname}/socket.io/`)}`
  const auth = token === null ? null : 'auth: { token }'
  const bearer = token === null ? '' : '-H "Authorization: Bearer $PAGEROOM_ADMIN_TOKEN" '
  return [
    { client: 'y-websocket', line: call('new WebsocketProvider', quoted(`${ws}/ws`), inPath, 'ydoc', token && '{ params: { token } }') },
    { client: 'Hocuspocus', line: `new HocuspocusProvider({ url: ${quoted(`${ws}/hocuspocus`)}, name: ${name}, document: ydoc${token === null ? '' : ', token'} })` },
    { client: 'y-socket.io', line: call('new SocketIOProvider', quoted(origin.replace(/^http/, 'ws')), inPath, 'ydoc', object(auth) ?? '{}', object(path)) },
    { client: 'y-sweet, in your backend', line: call('new DocumentManager', quoted(home.replace(/^http/, 'ys').replace('://', '://ADMIN_TOKEN@'))) },
    { client: 'Socket.IO', line: `${call('io', quoted(origin), object(path, auth))}.emit('join_page', { pageId: ${name}, stateVector }, answer)` },
    { client: 'Your backend', line: `curl ${bearer}${shellQuoted(`${home}/api/pages/${encodeURIComponent(page)}/content?format=json`)}` },
  ]
}

/** @param {string} what @param {(string | null)[]} parameters those that there are */
function call(what, ...parameters) {
  return `${what}(${parameters.filter((parameter) => parameter !== null).join(', ')})`
}

/** @param {(string | null)[]} members those that there are */
function object(...members) {
  const there = members.filter((member) => member !== null)
  return there.length === 0 ? null : `{ ${there.join(', ')} }`
}

/** A text as JavaScript writes it. @param {string} text */
export function quoted(text) {
  return `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`
}

/** A text as a shell takes it. @param {string} text */
function shellQuoted(text) {
  return `'${text.replaceAll("'", "'\\''")}'`
}

/** @param {ReturnType<typeof import('./address.js').readAddress>} address */
export function prepareConnectDialog({ page, kind, token }) {
  const at = { home: home(location.href), page, token }
  byId('connect-address').textContent = `${at.home.replace(/^http/, 'ws')}/ws/${socketPath(page)}`
  byId('connect-field').textContent = kind === 'rich' ? "ydoc.getXmlFragment('default')" : "ydoc.getText('text')"
  byId('connect-token').hidden = token === null
  byId('connect-lines').append(...lines(at).map(entry))
  const dialog = /** @type {HTMLDialogElement} */ (byId('connect-dialog'))
  byId('connect').addEventListener('click', () => dialog.showModal())
}

/** @param {{ client: string, line: string }} of */
function entry({ client, line }) {
  const element = document.createElement('div')
  const term = document.createElement('dt')
  term.textContent = client
  const description = document.createElement('dd')
  const code = document.createElement('code')
  code.textContent = line
  const button = document.createElement('button')
  button.type = 'button'
  button.textContent = 'Copy'
  button.setAttribute('aria-label', `Copy the line for ${client}`)
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer
  button.addEventListener('click', async () => {
    const copied = await copy(line)
    byId('announcement').textContent = copied ? 'Copied.' : ''
    if (copied) button.textContent = 'Copied'
    else getSelection()?.selectAllChildren(code)
    clearTimeout(timer)
    timer = setTimeout(() => (button.textContent = 'Copy'), COPIED_MS)
  })
  description.append(code, button)
  element.append(term, description)
  return element
}
