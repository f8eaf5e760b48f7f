// Cursors and typing between programs with the public Socket.IO client, which know no Yjs, and programs with real Yjs and its awareness, as
// editors write it: each sees the other's in its own form, and nothing of whom it may not see.

import { after, describe, test } from 'node:test'
import assert from 'node:assert/strict'

import { io } from 'socket.io-client'
import WebSocket from 'ws'
import * as Y from 'yjs'
import { WebsocketProvider } from 'y-websocket-3.1.0'
import { WebsocketProvider as OldProvider } from 'y-websocket-1.5.4'

import { freshPage, serverForFile } from './support/suite.js'
import { JWT_SECRET, tokenFor } from './support/tokens.js'
import { until } from './support/wait.js'

const server = serverForFile({ env: { JWT_SECRET } })

const open = []
after(() => open.forEach(close => close()))

/** A program without Yjs: what it has heard, by the names of the events. */
async function old (user, transports, pages = { '*': 'edit' }) {
  const socket = io(server().url, { transports, auth: { token: tokenFor(user, pages) }, forceNew: true, reconnection: false })
  open.push(() => socket.disconnect())
  const heard = {}
  socket.onAny((name, body) => (heard[name] ??= []).push(body))
  await new Promise((resolve, reject) => socket.on('connect', resolve).on('connect_error', reject))
  const ask = (event, body) => socket.timeout(10_000).emitWithAck(event, body)
  return { socket, heard, ask, last: name => heard[name]?.at(-1) }
}

/** An editor: a text, and a selection in it that is written and read as the bindings of CodeMirror do. */
async function editor (user, page, { field = 'content', Provider = WebsocketProvider, pages = { '*': 'edit' } } = {}) {
  const doc = new Y.Doc()
  const text = doc.getText(field)
  const provider = new Provider(server().url.replace(/^http/, 'ws') + '/ws', page, doc, {
    WebSocketPolyfill: WebSocket, disableBc: true, params: { token: tokenFor(user, pages) }
  })
  open.push(() => { provider.destroy(); doc.destroy() })
  const { awareness } = provider
  awareness.setLocalStateField('user', { id: 'somebody else', name: 'Somebody Else', color: '#30bced' })
  await until(`${user} has the page`, () => provider.synced)
  const select = (anchor, head) => awareness.setLocalStateField('cursor', {
    anchor: Y.createRelativePositionFromTypeIndex(text, anchor), head: Y.createRelativePositionFromTypeIndex(text, head)
  })
  /** What it shows of the others: their users, with the offsets of their selections in its own text. */
  const others = () => [...awareness.getStates()].filter(([id]) => id !== doc.clientID).map(([id, state]) => {
    const offset = place => Y.createAbsolutePositionFromRelativePosition(place, doc)?.index
    const { cursor } = state
    const range = cursor?.anchor && cursor.head && [offset(cursor.anchor), offset(cursor.head)]
    return { id, ...state, range }
  })
  return { doc, text, provider, awareness, select, others }
}

const sees = (editor, user) => editor.others().find(other => other.user?.id === user)
const at = (other, anchor, head) => other?.range?.[0] === anchor && other.range[1] === head

for (const transports of [['websocket'], ['polling'], ['polling', 'websocket']]) {
  describe(transports.join(' and then '), () => {
    test('a selection in a text is told in numbers that follow it', async () => {
      const pageId = freshPage()
      const cleo = await editor('cleo', pageId)
      cleo.text.insert(0, 'a😀b, and more')
      cleo.select(3, 5)
      const [ada, ben] = await Promise.all(['ada', 'ben'].map(user => old(user, transports)))
      await ada.ask('join_page', pageId)
      await ben.ask('join_page', { pageId })
      await until('Ada sees it', () => ada.last('cursor_moved'))
      const connectionId = String(cleo.doc.clientID)
      const told = { userId: 'cleo', name: 'cleo', color: '#30bced', cursor: { anchor: 3, head: 5 }, connectionId }
      assert.deepEqual(ada.last('cursor_moved'), { pageId, avatarUrl: null, ...told })
      await until('Ben sees it', () => ben.last('cursors_moved'))
      assert.deepEqual(ben.last('cursors_moved'), { pageId, cursors: [told] })
      // Somebody inserts before it, at the same time as its own program behind it.
      const dan = await editor('dan', pageId, { Provider: OldProvider })
      await until('Dan has the text', () => dan.text.length > 0)
      dan.text.insert(0, '🎉 ')
      cleo.text.insert(10, 'x')
      await until('it has moved', () => ada.last('cursor_moved').cursor.anchor === 6)
      assert.deepEqual(ada.last('cursor_moved').cursor, { anchor: 6, head: 8 })
      assert.equal(cleo.text.toString().slice(6, 8), 'b,')
      cleo.text.delete(0, 7)
      await until('what it begins with is gone', () => ada.last('cursor_moved').cursor.anchor === 0)
      assert.deepEqual(ada.last('cursor_moved').cursor, { anchor: 0, head: 1 })
      cleo.awareness.setLocalStateField('cursor', null)
      await until('it has left', () => ada.last('cursor_left') && ben.last('cursor_left'))
      assert.deepEqual(ada.last('cursor_left'), { pageId, userId: 'cleo', connectionId })
    })

    test('numbers become a selection that follows the text, of who the token says', async () => {
      const pageId = freshPage()
      const [cleo, dan] = [await editor('cleo', pageId), await editor('dan', pageId, { Provider: OldProvider })]
      cleo.text.insert(0, 'a😀b, and more')
      await until('Dan has the text', () => dan.text.length > 0)
      const ada = await old('ada', transports)
      await ada.ask('join_page', pageId)
      await ada.ask('cursor_move', { pageId, cursor: { anchor: 3, head: 5 }, userId: 'eve', user: { id: 'eve' } })
      for (const editor of [cleo, dan]) await until('it is shown', () => at(sees(editor, 'ada'), 3, 5))
      const { user } = sees(cleo, 'ada')
      assert.deepEqual(user, { id: 'ada', name: 'ada', color: user.color })
      assert.match(user.color, /^#[0-9a-f]{6}$/)
      dan.text.insert(1, '🎉🎉')
      for (const editor of [cleo, dan]) await until('it follows', () => at(sees(editor, 'ada'), 7, 9))
      await ada.ask('cursor_move', { pageId, cursor: { anchor: 400, head: 400 } })
      await until('it is at the end', () => at(sees(cleo, 'ada'), cleo.text.length, cleo.text.length))
      await ada.ask('cursor_move', { pageId, cursor: { block: 'x', at: [1, 2] } })
      await until('anything else is passed on', () => sees(cleo, 'ada')?.cursor?.block === 'x')
      assert.deepEqual(sees(cleo, 'ada').cursor, { block: 'x', at: [1, 2] })
      ada.socket.disconnect()
      for (const editor of [cleo, dan]) await until('it has left', () => !sees(editor, 'ada'))
    })

    test('typing is told both ways', async () => {
      const pageId = freshPage()
      const cleo = await editor('cleo', pageId)
      const [ada, ben] = await Promise.all(['ada', 'ben'].map(user => old(user, transports)))
      await ada.ask('join_channel', pageId)
      await ben.ask('join_page', { pageId })
      cleo.awareness.setLocalStateField('typing', true)
      await until('Ada hears it', () => ada.last('user_typing'))
      assert.deepEqual(ada.last('user_typing'), { pageId, userId: 'cleo' })
      await until('Ben hears it', () => ben.last('typing_updated'))
      assert.deepEqual(ben.last('typing_updated'), { pageId, users: [{ userId: 'cleo', name: 'cleo' }], count: 1 })
      cleo.awareness.setLocalStateField('typing', false)
      await until('Ada hears the end', () => ada.last('user_stopped_typing'))
      await ada.ask('typing_start', { pageId })
      await until('Cleo sees it', () => sees(cleo, 'ada')?.typing === true)
      ada.socket.emit('typing_stop', { pageId })
      await until('Cleo sees the end', () => !sees(cleo, 'ada'))
    })

    test('who may not be there sees nothing and shows nothing', async () => {
      const pageId = freshPage()
      const cleo = await editor('cleo', pageId)
      cleo.text.insert(0, 'text')
      const eve = await old('eve', transports, { elsewhere: 'edit' })
      assert.equal((await eve.ask('join_page', pageId)).error.code, 'forbidden')
      for (const event of ['cursor_move', 'typing_start']) {
        assert.equal((await eve.ask(event, { pageId, cursor: { anchor: 1, head: 1 } })).error.code, 'conflict')
      }
      const ada = await old('ada', transports, { [pageId]: 'view' })
      await ada.ask('join_page', pageId)
      await ada.ask('cursor_move', { pageId, cursor: { anchor: 1, head: 1 } })
      cleo.select(2, 2)
      await until('those who may see each other', () => ada.last('cursor_moved') && at(sees(cleo, 'ada'), 1, 1))
      assert.deepEqual(cleo.others().map(other => other.user.id), ['ada'])
      assert.deepEqual(Object.keys(eve.heard).filter(name => /cursor|typing/.test(name)), [])
    })
  })
}

test('a text of another name is the content where it is the only one, and is named where it is not', async () => {
  const pageId = freshPage()
  const cleo = await editor('cleo', pageId, { field: 'codemirror' })
  cleo.text.insert(0, 'text')
  const ada = await old('ada', ['websocket'])
  await ada.ask('join_page', pageId)
  cleo.select(2, 3)
  await until('it is told', () => ada.last('cursor_moved')?.cursor.anchor === 2)
  assert.deepEqual(ada.last('cursor_moved').cursor, { anchor: 2, head: 3 })
  cleo.doc.getText('content').insert(0, 'the content')
  await until('it is named', () => ada.last('cursor_moved').cursor.field)
  assert.deepEqual(ada.last('cursor_moved').cursor, { anchor: 2, head: 3, field: 'codemirror' })
  await ada.ask('cursor_move', { pageId, cursor: { anchor: 1, head: 1, field: 'codemirror' } })
  await until('it is shown there', () => at(sees(cleo, 'ada'), 1, 1))
  assert.equal(sees(cleo, 'ada').cursor.anchor.tname, 'codemirror')
})

test('programs with the selection of Monaco see selections where they look for them', async () => {
  const pageId = freshPage()
  const cleo = await editor('cleo', pageId, { field: 'monaco' })
  cleo.text.insert(0, 'text')
  const place = index => Y.createRelativePositionFromTypeIndex(cleo.text, index)
  cleo.awareness.setLocalStateField('selection', { anchor: place(1), head: place(4) })
  const ada = await old('ada', ['websocket'])
  await ada.ask('join_page', pageId)
  await until('it is told', () => ada.last('cursor_moved')?.cursor.head === 4)
  await ada.ask('cursor_move', { pageId, cursor: { anchor: 2, head: 2 } })
  await until('it is shown', () => sees(cleo, 'ada')?.selection)
  const { selection, cursor } = sees(cleo, 'ada')
  assert.deepEqual(selection, cursor)
  assert.equal(Y.createAbsolutePositionFromRelativePosition(selection.head, cleo.doc).index, 2)
})
