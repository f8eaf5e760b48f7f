// Stories of a page and its server over a scripted socket: what is said to be saved, and what is done when it goes wrong.

import assert from 'node:assert/strict'
import { afterEach, beforeEach, mock, test } from 'node:test'
import * as decoding from 'lib0/decoding'
import * as encoding from 'lib0/encoding'
import * as Y from 'yjs'

/** The socket as the server's side of the story moves it. */
class ScriptedSocket {
  static OPEN = 1
  /** @type {ScriptedSocket[]} */
  static all = []
  OPEN = 1
  readyState = 0
  /** @type {{ type: number, step: number, payload: Uint8Array }[]} */
  sent = []
  onopen = () => {}
  onmessage = (/** @type {{ data: ArrayBuffer }} */ _event) => {}
  onclose = (/** @type {{ code: number, reason: string }} */ _event) => {}

  constructor(/** @type {string} */ url) {
    this.url = url
    ScriptedSocket.all.push(this)
  }
  send(/** @type {Uint8Array} */ frame) {
    const decoder = decoding.createDecoder(frame)
    const type = decoding.readVarUint(decoder)
    if (type === 0) this.sent.push({ type, step: decoding.readVarUint(decoder), payload: decoding.readVarUint8Array(decoder) })
  }
  close() {}

  open() {
    this.readyState = 1
    this.onopen()
  }
  /** @param {number} step @param {Uint8Array} payload */
  says(step, payload) {
    const encoder = encoding.createEncoder()
    encoding.writeVarUint(encoder, 0)
    encoding.writeVarUint(encoder, step)
    encoding.writeVarUint8Array(encoder, payload)
    this.onmessage({ data: encoding.toUint8Array(encoder).slice().buffer })
  }
  /** @param {string} reason */
  refuses(reason) {
    const encoder = encoding.createEncoder()
    encoding.writeVarUint(encoder, 2)
    encoding.writeVarUint(encoder, 0)
    encoding.writeVarString(encoder, reason)
    this.onmessage({ data: encoding.toUint8Array(encoder).slice().buffer })
  }
  closes(/** @type {number} */ code, reason = '') {
    this.readyState = 3
    this.onclose({ code, reason })
  }
  /** Updates sent by the page since the last look. */
  take() {
    return this.sent.splice(0).filter((message) => message.step !== STEP1)
  }
}
const STEP1 = 0
const STEP2 = 1
const UPDATE = 2
const EMPTY = Y.encodeStateAsUpdate(new Y.Doc())

// Before the import, because the provider looks for it when it is made.
Object.assign(globalThis, { WebSocket: ScriptedSocket })
const { Connection } = await import('../source/connection.js')

/** @type {InstanceType<typeof Connection>} */
let page
/** @type {Y.Text} */
let text

function socket() {
  return ScriptedSocket.all[ScriptedSocket.all.length - 1]
}

/** The server accepts the connection and tells what it has. @param {Y.Doc} [server] */
function join(server = new Y.Doc()) {
  socket().open()
  socket().says(STEP1, Y.encodeStateVector(server))
  socket().says(STEP2, Y.encodeStateAsUpdate(server))
}

beforeEach(() => {
  mock.timers.enable({ apis: ['setTimeout', 'setInterval', 'Date'] })
  ScriptedSocket.all = []
  page = new Connection({ host: 'ws://server', page: 'a b/ü?', token: 'secret', readOnly: false })
  text = page.doc.getText('text')
  page.connect()
  mock.timers.tick(1)
})
afterEach(() => {
  page.destroy()
  mock.timers.reset()
})

test('the page is in the path, escaped but for its slashes, and the token in the query', () => {
  assert.equal(socket().url, 'ws://server/ws/a%20b/%C3%BC%3F?token=secret')
})

test('it is online after the server has sent what it has, not before', () => {
  socket().open()
  assert.equal(page.facts.link, 'connecting')
  socket().says(STEP2, EMPTY)
  assert.equal(page.facts.link, 'online')
})

test('an edit is unsaved until its echo, and the echo of one edit is not that of the next', () => {
  join()
  socket().take()
  text.insert(0, 'a')
  text.insert(1, 'b')
  assert.equal(page.facts.unsaved, true)
  const [first, second] = socket().take()
  socket().says(UPDATE, first.payload)
  assert.equal(page.facts.unsaved, true)
  socket().says(UPDATE, second.payload)
  assert.equal(page.facts.unsaved, false)
})

test('a step 2 is not a confirmation, because it may come from the memory of a server whose store fails', () => {
  join()
  text.insert(0, 'a')
  socket().says(STEP2, Y.encodeStateAsUpdate(page.doc))
  assert.equal(page.facts.unsaved, true)
})

test('what was written offline goes to the server with the next connection and is saved with its echo', () => {
  join()
  socket().closes(1006)
  assert.equal(page.facts.link, 'offline')
  text.insert(0, 'offline')
  mock.timers.tick(5000)
  join()
  const [answer] = socket().take()
  assert.equal(answer.step, STEP2)
  assert.equal(page.facts.unsaved, true)
  socket().says(UPDATE, answer.payload)
  assert.equal(page.facts.unsaved, false)
})

test('an edit whose echo was lost is repeated even to a server that has it', () => {
  join()
  socket().take()
  text.insert(0, 'stored or not?')
  const server = new Y.Doc()
  Y.applyUpdate(server, socket().take()[0].payload)
  socket().closes(1006)
  mock.timers.tick(5000)
  join(server)
  assert.equal(page.facts.unsaved, true, 'the server has it, but nobody said that it is stored')
  const [answer] = socket().take()
  const repeated = new Y.Doc()
  Y.applyUpdate(repeated, answer.payload)
  assert.equal(repeated.getText('text').toString(), 'stored or not?')
  socket().says(UPDATE, answer.payload)
  assert.equal(page.facts.unsaved, false)
})

test('a lost echo of a deletion is repeated as well', () => {
  const server = new Y.Doc()
  server.getText('text').insert(0, 'old words')
  join(server)
  text.delete(0, 4)
  socket().closes(1006)
  mock.timers.tick(5000)
  join(server)
  const answer = socket().take().find((message) => message.step === STEP2)
  assert.ok(answer)
  socket().says(UPDATE, answer.payload)
  assert.equal(page.facts.unsaved, false)
})

test('what the server has counts as saved', () => {
  const server = new Y.Doc()
  server.getText('text').insert(0, 'old words')
  join(server)
  assert.equal(text.toString(), 'old words')
  assert.equal(page.facts.unsaved, false)
})

test('another tab of the same browser gets an edit from the server or not at all', () => {
  const tab = new Connection({ host: 'ws://server', page: 'a b/ü?', token: 'secret', readOnly: false })
  tab.connect()
  try {
    text.insert(0, 'a')
    assert.equal(tab.doc.getText('text').toString(), '')
  } finally {
    tab.destroy()
  }
})

test('edits of others change nothing about what is unsaved here', () => {
  join()
  const bob = new Y.Doc()
  bob.getText('text').insert(0, 'bob')
  socket().says(UPDATE, Y.encodeStateAsUpdate(bob))
  assert.equal(text.toString(), 'bob')
  assert.equal(page.facts.unsaved, false)
  text.insert(3, '!')
  socket().says(UPDATE, Y.encodeStateAsUpdate(bob))
  assert.equal(page.facts.unsaved, true)
})

test('without a confirmation it is late after five seconds, and repeated after ten, twenty, forty', () => {
  join()
  text.insert(0, 'a')
  socket().take()
  mock.timers.tick(4999)
  assert.equal(page.facts.late, false)
  mock.timers.tick(1)
  assert.equal(page.facts.late, true)
  assert.equal(socket().take().length, 0)
  mock.timers.tick(5000)
  const [repeat] = socket().take()
  assert.equal(repeat.step, UPDATE)
  mock.timers.tick(19_999)
  assert.equal(socket().take().length, 0)
  mock.timers.tick(1)
  assert.equal(socket().take().length, 1)
  socket().says(UPDATE, repeat.payload)
  assert.deepEqual([page.facts.unsaved, page.facts.late], [false, false])
  mock.timers.tick(29_000) // before the provider itself gives up the silent connection
  assert.equal(socket().take().length, 0)
})

test('it comes back by itself after a restart of the server', () => {
  join()
  socket().closes(1012, 'draining: the server is stopping, connect again')
  assert.equal(page.facts.link, 'offline')
  assert.equal(page.facts.refusal, null)
  mock.timers.tick(3000)
  assert.equal(ScriptedSocket.all.length, 2)
})

for (const code of [4400, 4401, 4403, 4404, 4413]) {
  test(`it stays away after ${code} until somebody asks for another try`, () => {
    socket().open()
    socket().closes(code, 'some_code: the reason')
    assert.match(page.facts.refusal?.why ?? '', /the reason/)
    assert.doesNotMatch(page.facts.refusal?.why ?? '', /some_code/)
    mock.timers.tick(600_000)
    assert.equal(ScriptedSocket.all.length, 1)
    page.retry()
    assert.equal(ScriptedSocket.all.length, 2)
    join()
    assert.deepEqual([page.facts.link, page.facts.refusal], ['online', null])
  })
}

test('it waits half a minute when it asked too often', () => {
  socket().open()
  socket().closes(4429, 'rate_limited: slow down')
  mock.timers.tick(29_999)
  assert.equal(ScriptedSocket.all.length, 1)
  mock.timers.tick(1)
  assert.equal(ScriptedSocket.all.length, 2)
})

test('a refused change is told with its reason until something is taken again', () => {
  join()
  text.insert(0, 'a')
  const [, update] = socket().take()
  socket().refuses('too_large: the page has reached its limit')
  assert.equal(page.facts.rejected, 'The server did not take your last change: the page has reached its limit.')
  socket().says(UPDATE, update.payload)
  assert.equal(page.facts.rejected, null)
})

test('a server that takes no changes from this user makes the page read only', () => {
  let asked = 0
  page.onReadOnly = () => asked++
  join()
  socket().refuses('read_only: you may read this page and not change it')
  assert.equal(asked, 1)
  assert.equal(page.facts.rejected, null)
})

test('a read-only page never waits for anything to be saved', () => {
  page.destroy()
  page = new Connection({ host: 'ws://server', page: 'p', token: null, readOnly: true })
  page.doc.getText('text').insert(0, 'a')
  assert.equal(page.facts.unsaved, false)
})
