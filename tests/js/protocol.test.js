// The y-websocket protocol frame by frame: packing, order, echoes, and what malformed bytes lead to.

import { describe, test } from 'node:test'
import assert from 'node:assert/strict'
import { connect } from 'node:net'

import * as Y from 'yjs'

import { Client } from './support/clients.js'
import {
  RawClient, awareness, covers, hex, joined, queryAwareness, syncStep1, syncStep2, syncUpdate, textUpdate
} from './support/raw.js'
import { freshPage, serverForFile } from './support/suite.js'
import { holdsFor, until } from './support/wait.js'

const server = serverForFile({
  env: {
    PAGEROOM_MAX_MESSAGE_BYTES: '65536',
    // Who does not read answers no ping either; on a machine that is busy otherwise that may take minutes.
    PAGEROOM_CONNECTION_TIMEOUT_SECONDS: '600',
    PAGEROOM_MAX_STALL_SECONDS: '600'
  }
})

const EMPTY = hex('00')

describe('frames', () => {
  test('the server asks with step 1, answers step 1 with step 2, one message per frame', async () => {
    const raw = await RawClient.connect(server(), freshPage())
    await raw.next('step1')
    raw.send(syncStep1(EMPTY))
    const { body } = await raw.next('step2')
    assert.deepEqual(body, hex('0000'), 'an empty page is the empty update')
    assert.deepEqual(raw.defects, [])
  })

  test('all messages of one received frame are handled', async () => {
    const page = freshPage()
    const ben = await new Client(server(), page).whenSynced()
    const raw = await RawClient.connect(server(), page)
    raw.send(joined(
      syncStep1(EMPTY), awareness([7001, 1, { user: { name: 'Packed' } }]),
      syncUpdate(textUpdate('one ', 7001)), syncUpdate(textUpdate('two ', 7002)), queryAwareness, EMPTY
    ))
    await raw.next('step2')
    await until('both updates arrive', () => ben.text.includes('one ') && ben.text.includes('two '))
    await until('the awareness entry arrives', () => ben.presenceOf(7001)?.user.name === 'Packed')
    await raw.next('awareness', message => message.entries.some(entry => entry.clientId === 7001))
    assert.deepEqual(raw.defects, [], 'each answer came in a frame of its own')
  })

  test('an update comes back to its author and reaches the others', async () => {
    const page = freshPage()
    const other = await RawClient.connect(server(), page)
    await other.settle()
    const author = await RawClient.connect(server(), page)
    await author.settle()
    author.send(syncUpdate(textUpdate('hello', 7100)))
    await author.next('update', message => covers(message.body, 7100, 0, 5))
    await other.next('update', message => covers(message.body, 7100, 0, 5))
    const late = await RawClient.connect(server(), page)
    assert.ok(covers((await late.settle()).body, 7100, 0, 5))
  })

  test('a step 2 from a client is an edit like any other', async () => {
    const page = freshPage()
    const other = await RawClient.connect(server(), page)
    await other.settle()
    const author = await RawClient.connect(server(), page)
    await author.next('step1')
    author.send(syncStep2(textUpdate('from step 2', 7200)))
    await other.next('update', message => covers(message.body, 7200, 0, 11))
    await author.next('update', message => covers(message.body, 7200, 0, 11))
  })

  test('an update that comes too early is not shown, asked for, and completed', async () => {
    const page = freshPage()
    const doc = new Y.Doc()
    doc.clientID = 7300
    const updates = []
    doc.on('update', update => updates.push(update))
    doc.getText('text').insert(0, 'first ')
    doc.getText('text').insert(6, 'second')
    const witness = await new Client(server(), page).whenSynced()
    const author = await RawClient.connect(server(), page)
    await author.next('step1')
    author.send(syncUpdate(updates[1]))
    await author.next('step1', message => !Y.decodeStateVector(message.body).has(7300))
    assert.equal(witness.text, '')
    author.send(syncStep2(updates[0]))
    await until('everything is there', () => witness.text === 'first second')
    await author.next('update', message => covers(message.body, 7300, 0, 6))
    assert.equal((await server().content(page)).text, 'first second')
  })
})

/** What a stranger might send, as bytes; each ends the connection with 4400. */
const MALFORMED = [
  ['a truncated number', hex('80')],
  ['a number that never ends', hex('ff'.repeat(12))],
  ['a sync message without its kind', hex('00 80')],
  ['an unknown kind of sync message', hex('00 03 01 00')],
  ['a state vector cut off', hex('00 00 05 01')],
  ['a state vector that counts more than it holds', hex('00 00 05 80808080 02')],
  ['an update cut off', hex('00 02 20 01 01')],
  ['an update that does not decode', hex('00 02 04 09090909')],
  ['a step 2 that does not decode', hex('00 01 04 09090909')],
  ['an update with bytes left over', joined(hex('00 02 03'), hex('0000 05'))],
  ['an update whose count asks for a gigabyte', hex('00 02 06 8080 8080 0200')],
  ['an update with a string that is not UTF-8', syncUpdate(hex('01 01 07 00 04 01 01 74 02 c328 00'))],
  ['an update with values nested thousands deep',
    syncUpdate(joined(hex('01 01 07 00 08 01 01 74 01'), ...Array(8_000).fill(hex('75 01')), hex('7e'), hex('00')))],
  ['an update of clock 2^32', syncUpdate(hex('010407acc7e48b6d2801016d016b017d01a807110177016e0128000713017a017d010107011101'))],
  ['an update of a zero-length item', syncUpdate(hex('01 01 07 00 00 00 00'))],
  ['awareness cut off', hex('01 05 01')],
  ['awareness that counts more than it holds', hex('01 05 80808080 02')],
  ['awareness that is not JSON', hex('01 05 01 01 01 01 7b')],
  ['awareness that is not UTF-8', hex('01 06 01 01 01 02 c328')]
]

describe('malformed frames', () => {
  for (const [what, frame] of MALFORMED) {
    test(what, async () => {
      const page = freshPage()
      const ada = await new Client(server(), page, { presence: { user: { name: 'Ada' } } }).whenSynced()
      const ben = await new Client(server(), page).whenSynced()
      ada.insertText(0, 'kept ')
      const raw = await RawClient.connect(server(), page)
      await raw.settle()
      raw.send(syncUpdate(textUpdate('good ', 7400)))
      raw.send(frame)
      const { code, reason } = await raw.whenClosed()
      assert.equal(code, 4400)
      assert.notEqual(reason, '', 'the reason says what was wrong')
      await until('what was good arrives', () => ben.text.includes('kept ') && ben.text.includes('good '))
      ben.insertText(ben.textLength, 'after')
      await until('editing goes on', () => ada.text.endsWith('after') && ada.text.includes('good '))
      assert.deepEqual([ada.closes, ben.closes], [[], []], 'nobody else was disconnected')
      assert.ok(ben.presenceOf(ada))
      await until('the server holds it', async () => (await server().content(page)).text === ada.text)
    })
  }

  test('text frames are not of this protocol', async () => {
    const raw = await RawClient.connect(server(), freshPage())
    raw.send('hello')
    assert.equal((await raw.whenClosed()).code, 4400)
  })

  test('an undecodable update is never acknowledged', async () => {
    const raw = await RawClient.connect(server(), freshPage())
    await raw.settle()
    raw.messages = []
    raw.send(syncUpdate(hex('09090909')))
    await raw.whenClosed()
    assert.deepEqual(raw.messages.filter(message => message.kind === 'update'), [])
  })

  test('too large a message: 4413, and the others go on', async () => {
    const page = freshPage()
    const ada = await new Client(server(), page).whenSynced()
    const raw = await RawClient.connect(server(), page)
    await raw.settle()
    raw.send(syncUpdate(textUpdate('x'.repeat(70_000), 7500)))
    assert.equal((await raw.whenClosed()).code, 4413)
    ada.insertText(0, 'fine')
    await until('the page has only what was allowed', async () => (await server().content(page)).text === 'fine')
    assert.deepEqual(ada.closes, [])
  })

  test('a message just within the limit passes', async () => {
    const page = freshPage()
    const raw = await RawClient.connect(server(), page)
    await raw.settle()
    raw.send(syncUpdate(textUpdate('x'.repeat(65_000), 7501)))
    await raw.next('update', message => covers(message.body, 7501, 0, 65_000))
  })

  test('noise of every length neither harms nor stops the server', async () => {
    const page = freshPage()
    const ada = await new Client(server(), page).whenSynced()
    let state = 12345
    const noise = length => Uint8Array.from({ length }, () => {
      state = (Math.imul(state, 1103515245) + 12345) >>> 0
      return state >>> 24
    })
    for (let length = 0; length < 60; length++) {
      const raw = await RawClient.connect(server(), page)
      raw.send(joined(length % 2 ? hex('00 02') : hex('01'), hex(length.toString(16).padStart(2, '0')), noise(length)))
      raw.terminate()
    }
    ada.insertText(0, 'unharmed')
    const ben = await new Client(server(), page).whenSynced()
    await until('editing goes on', () => ben.text === 'unharmed')
    assert.deepEqual(ada.closes, [])
  })
})

/** Asks for an upgrade with exactly this path, which a URL parser would have tidied up. */
async function upgradeAt (path) {
  return new Promise((resolve, reject) => {
    const socket = connect(server().port, '127.0.0.1', () => socket.write(
      `GET ${path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n` +
      'Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n'))
    let received = Buffer.alloc(0)
    socket.setTimeout(10_000, () => socket.destroy(new Error('no answer')))
    socket.on('error', reject)
    socket.on('close', () => reject(new Error(`closed without a verdict after ${received.length} bytes`)))
    socket.on('data', data => {
      received = Buffer.concat([received, data])
      const end = received.indexOf('\r\n\r\n')
      if (end < 0) return
      const status = Number(received.subarray(9, 12).toString())
      if (status !== 101) return socket.destroy(), resolve({ status })
      const frame = received.subarray(end + 4)
      if (frame.length < 2) return
      const opcode = frame[0] & 0x0f
      if (opcode === 8 && frame.length < 4) return
      socket.destroy()
      resolve({ status, close: opcode === 8 ? frame.readUInt16BE(2) : undefined })
    })
  })
}

describe('page names', () => {
  for (const [what, path] of [
    ['nothing', '/ws/'],
    ['a parent segment', '/ws/a/../b'],
    ['an encoded parent segment', '/ws/a/%2e%2e/b'],
    ['a lone dot', '/ws/.'],
    ['a NUL', '/ws/a%00b'],
    ['a line break', '/ws/a%0Ab'],
    ['bytes that are not UTF-8', '/ws/%ff%fe'],
    ['256 bytes', `/ws/${'n'.repeat(256)}`]
  ]) {
    test(`${what} is refused`, async () => {
      const { status, close } = await upgradeAt(path)
      if (status === 101) assert.equal(close, 4400)
      else assert.ok(status === 400 || status === 404, `status ${status}`)
    })
  }

  test('255 bytes are allowed', async () => {
    assert.deepEqual(await upgradeAt(`/ws/${'n'.repeat(255)}`), { status: 101, close: undefined })
  })

  test('opening a page writes nothing', async () => {
    const page = freshPage('untouched')
    const raw = await RawClient.connect(server(), page)
    await raw.settle()
    raw.dispose()
    assert.equal(await server().snapshot(page), undefined)
  })
})

describe('slow readers', () => {
  test('who does not read for a while gets everything in the end, and nobody waits for it', async () => {
    const page = freshPage('slow')
    const slow = await RawClient.connect(server(), page)
    await slow.settle()
    slow.socket.pause()
    const ada = await new Client(server(), page).whenSynced()
    const ben = await new Client(server(), page).whenSynced()
    const chunk = 'y'.repeat(30_000)
    for (let i = 0; i < 400; i++) {
      ada.insertText(ada.textLength, chunk)
      if (i % 8 === 7) await until('the quick one keeps up', () => ben.textLength === ada.textLength)
    }
    slow.socket.resume()
    const doc = new Y.Doc()
    slow.onMessage = ({ kind, body }) => { if (kind === 'update' || kind === 'step2') Y.applyUpdate(doc, body) }
    for (const { kind, body } of slow.messages) if (kind === 'update' || kind === 'step2') Y.applyUpdate(doc, body)
    await until(() => `the slow one has it all: ${doc.getText('text').length}, close ${slow.closeCode}`,
      () => doc.getText('text').length === 400 * 30_000, 30_000)
    assert.equal(doc.getText('text').toString(), ada.text)
    await holdsFor('the connection stays', 200, () => slow.isOpen)
  })
})
