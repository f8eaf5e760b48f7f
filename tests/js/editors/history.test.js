// A page that an editor with an older schema has damaged: y-prosemirror deletes the nodes that its schema does not know as soon as it
// shows them. One call brings them back.

import './support/dom.js'

import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'

import { Editor, Node } from '@tiptap/core'
import { Collaboration } from '@tiptap/extension-collaboration'
import { TaskItem, TaskList } from '@tiptap/extension-list'
import { TableKit } from '@tiptap/extension-table'
import { StarterKit } from '@tiptap/starter-kit'
import { WebsocketProvider } from 'y-websocket'
import * as Y from 'yjs'

import { Server } from '../support/server.js'
import { JWT_SECRET, tokenFor } from '../support/tokens.js'
import { until } from '../support/wait.js'

const OLD = [StarterKit.configure({ undoRedo: false })]
const callout = Node.create({
  name: 'callout',
  group: 'block',
  content: 'block+',
  addAttributes: () => ({ kind: { default: null } }),
  parseHTML: () => [{ tag: 'aside' }],
  renderHTML: ({ HTMLAttributes }) => ['aside', HTMLAttributes, 0]
})
const NEW = [...OLD, TaskList, TaskItem, TableKit, callout]
const HTML = '<h2>Plan</h2><aside kind="warning"><p>mind the <strong>gap</strong></p></aside><p>between</p>' +
  '<ul data-type="taskList"><li data-checked="true" data-type="taskItem"><p>done</p></li></ul><table><tr><th>a</th></tr><tr><td>1</td></tr></table><p>end</p>'

let server
before(async () => { server = await Server.start({ env: { JWT_SECRET } }) })
after(() => server?.dispose())

const ended = []
after(() => ended.reverse().forEach(end => end()))

/** An editor of a user with these extensions, once it has what is there. */
async function opened (user, page, extensions) {
  const doc = new Y.Doc()
  const params = { token: tokenFor(user, { '*': 'edit' }) }
  const provider = new WebsocketProvider(server.socketUrl, page, doc, { disableBc: true, params })
  ended.push(() => doc.destroy(), () => provider.destroy())
  await until('the page', () => provider.synced)
  const element = document.body.appendChild(document.createElement('div'))
  const editor = new Editor({ element, extensions: [...extensions, Collaboration.configure({ document: doc })] })
  ended.push(() => editor.destroy())
  return editor
}

async function call (method, path, body) {
  const headers = { 'content-type': 'application/json' }
  const response = await server.api(`/api/pages/${path}`, { method, headers, body: body && JSON.stringify(body) })
  const answer = await response.json()
  assert.ok(response.ok, `${path}: ${JSON.stringify(answer)}`)
  return answer
}

const changes = async page => (await call('GET', `${page}/changes?since=0`)).changes
/** What an editor shows, as plain objects. */
const shown = editor => JSON.parse(JSON.stringify(editor.getJSON()))
const types = editor => editor.getJSON().content.map(({ type }) => type)

/** A page on which Ada with the new schema has written, Bob with the old one opens it, and Ada types afterwards. */
async function damaged (page) {
  const ada = await opened('ada', page, NEW)
  ada.commands.setContent(HTML)
  const whole = shown(ada)
  await until('all of it is stored', async () => (await call('GET', `${page}/content?format=prosemirror`)).content?.length === whole.content.length)
  const seq = (await changes(page)).at(-1).seq
  const { version } = await call('POST', `${page}/versions`, { name: 'written' })
  const bob = await opened('bob', page, OLD)
  await until('Ada has lost what Bob does not know', () => !['callout', 'taskList', 'table'].some(type => types(ada).includes(type)))
  // As somebody who notices it does first.
  bob.destroy()
  ada.commands.insertContentAt(ada.state.doc.content.size, '<p>typed afterwards</p>')
  await until('what is typed is stored', async () =>
    JSON.stringify(await call('GET', `${page}/content?format=prosemirror`)).includes('typed afterwards'))
  return { ada, whole, seq, version }
}

const afterwards = { type: 'paragraph', content: [{ type: 'text', text: 'typed afterwards' }] }
test('what an editor has deleted that did not know it is undone in one call, and what is typed since stays', async () => {
  const page = 'damaged-undone'
  const { ada, whole, seq } = await damaged(page)
  const last = (await changes(page)).at(-1).seq
  await call('POST', `${page}/undo`, { user: 'bob', fromSeq: seq + 1, toSeq: last })
  const expected = { ...whole, content: [...whole.content, afterwards] }
  await until('all of it at Ada\'s', () => JSON.stringify(types(ada)) === JSON.stringify(expected.content.map(({ type }) => type)))
  assert.deepEqual(shown(ada), expected)
  const carl = await opened('carl', page, NEW)
  assert.deepEqual(shown(carl), expected)
  const { content } = await call('GET', `${page}/content?format=prosemirror`)
  assert.deepEqual(content.map(({ type }) => type), expected.content.map(({ type }) => type))
})

test('a page that an editor has damaged is brought back to a version in one call', async () => {
  const page = 'damaged-restored'
  const { ada, whole, version } = await damaged(page)
  await call('POST', `${page}/versions/${version}/restore`)
  await until('all of it at Ada\'s', () => JSON.stringify(types(ada)) === JSON.stringify(whole.content.map(({ type }) => type)))
  assert.deepEqual(shown(ada), whole)
  const carl = await opened('carl', page, NEW)
  assert.deepEqual(shown(carl), whole)
})
