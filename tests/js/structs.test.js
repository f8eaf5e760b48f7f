// Updates that no careful client sends, and some that honest ones do: what contradicts itself is refused and hurts nobody, what
// builds on something missing waits without keeping its author from working, and old pages of many authors are taken.

import { describe, test } from 'node:test'
import assert from 'node:assert/strict'

import * as Y from 'yjs'
import * as Y135 from 'yjs-13-5'

import { Client } from './support/clients.js'
import { RawClient, hex, joined, syncStep1, syncUpdate } from './support/raw.js'
import { Server } from './support/server.js'
import { documentOf } from './support/structs.js'
import { freshPage, serverForFile } from './support/suite.js'
import { until } from './support/wait.js'

const server = serverForFile()

const post = (page, update, from = server()) => from.api(`/api/pages/${page}/updates`, { method: 'POST', body: update })

async function postTaken (page, update, from) {
  const response = await post(page, update, from)
  const answer = await response.text()
  assert.equal(response.status, 200, answer)
}

/** The update is refused over REST and over a socket, says why, and leaves the page as it was. */
async function assertRefused (page, update) {
  const before = await server().snapshot(page)
  const response = await post(page, update)
  const { error } = await response.json()
  assert.ok(response.status >= 400 && response.status < 500, `${response.status} ${error?.message}`)
  assert.equal(error.retryable, false)
  const raw = await RawClient.connect(server(), page)
  raw.send(syncUpdate(update))
  assert.equal((await raw.whenClosed()).code, 4400)
  assert.deepEqual(await server().snapshot(page), before)
}

/** A document of a client, with the updates of its edits one by one. */
function written (clientId, ...edits) {
  const doc = new Y.Doc()
  doc.clientID = clientId
  const updates = []
  doc.on('update', update => updates.push(update))
  for (const edit of edits) edit(doc)
  return updates
}

const append = (name, text) => doc => doc.getText(name).insert(doc.getText(name).length, text)

/** What a newcomer gets. */
async function newcomer (page, from = server()) {
  const raw = await RawClient.connect(from, page)
  raw.send(syncStep1(hex('00')))
  const { body } = await raw.next('step2')
  raw.dispose()
  const doc = new Y.Doc()
  Y.applyUpdate(doc, body)
  return doc
}

/** One string of client 50 with an origin and a right origin, `[client, clock]` each (all below 128). */
const between = (left, right) => joined(hex('01 01 32 00 c4'), Uint8Array.from([...left, ...right]), hex('01 59 00'))

describe('contradictions', () => {
  test('living content of more than one tick under a key', async () => {
    const page = freshPage('ticks')
    const refused = hex('01030700070101610124000700016c056465666768840702017800')
    await assertRefused(page, refused)
    // The second half of what once ended the process: the map that the first made is deleted.
    await post(page, hex('000107010001'))
    await newcomer(page)
    await server().snapshot(page)
    assert.equal(await server().readiness(), 200)
    const client = await new Client(server(), page).whenSynced()
    client.insertText(0, 'still here')
    await until('the page is edited as before', async () => (await newcomer(page)).getText('text').toString() === 'still here')
  })

  test('neighbours of different parents', async () => {
    const page = freshPage('parents')
    const [one, other] = written(100, append('text', 'ab'), append('other', 'cd'))
    await postTaken(page, one)
    await postTaken(page, other)
    await assertRefused(page, between([100, 0], [100, 2]))
  })

  test('neighbours under a key and in a list', async () => {
    const page = freshPage('keys')
    const [key] = written(100, doc => doc.getMap('both').set('key', 1))
    const [item] = written(101, doc => doc.getArray('both').insert(0, [1]))
    await postTaken(page, key)
    await postTaken(page, item)
    await assertRefused(page, between([100, 0], [101, 0]))
  })
})

describe('updates that build on something missing', () => {
  // Client 2 writes "m" and needs nothing; client 1's clock 2 is "C" behind clocks 0 and 1, which nobody has sent.
  const halfComplete = hex('020102000401046d696e65016d010102840101014300')
  const [missing] = written(1, append('text', 'AB'))

  for (const [over, send] of [
    ['a socket', async page => {
      const raw = await RawClient.connect(server(), page)
      await raw.next('step1')
      raw.send(syncUpdate(halfComplete))
      // Asked for what is missing.
      await raw.next('step1', message => !Y.decodeStateVector(message.body).has(1))
    }],
    ['REST', page => postTaken(page, halfComplete)]
  ]) {
    test(`what is complete is taken at once, the rest when it can be (${over})`, async () => {
      const page = freshPage('half')
      await send(page)
      await until('the complete part is readable', async () => (await newcomer(page)).getText('mine').toString() === 'm')
      assert.equal((await newcomer(page)).getText('text').toString(), '')
      await postTaken(page, missing)
      await until('the rest is there', async () => (await newcomer(page)).getText('text').toString() === 'ABC')
      assert.equal((await newcomer(page)).getText('mine').toString(), 'm')
    })
  }

  test('a hole that nobody fills does not keep its author from working', async () => {
    const page = freshPage('hole')
    const author = new Client(server(), page, { connect: false, clientId: 2_000 })
    Y.applyUpdate(author.doc, halfComplete)
    author.insertText(0, 'offline ')
    author.online()
    await author.whenSynced()
    author.insertText(author.textLength, 'and online')
    const witness = await new Client(server(), page).whenSynced()
    await until('the author is heard', () => witness.text === 'offline and online')
    await until('the author is stored', async () => (await newcomer(page)).getText('text').toString() === 'offline and online')
  })

  test('what waits survives a kill', async () => {
    const page = freshPage('parked')
    const own = await Server.start()
    try {
      await postTaken(page, halfComplete, own)
      await own.restart()
      assert.equal((await newcomer(page, own)).getText('mine').toString(), 'm')
      await postTaken(page, missing, own)
      await until('the rest is there', async () => (await newcomer(page, own)).getText('text').toString() === 'ABC')
    } finally {
      await own.dispose()
    }
  })

  test('a newcomer has what waits, and completes it when a third client brings the missing', async () => {
    const page = freshPage('told')
    const updates = written(7, ...['a', 'b', 'c', 'd'].map(letter => append('text', letter)), doc => doc.getText('text').delete(3, 1))
    await postTaken(page, updates[0])
    await postTaken(page, Y.mergeUpdates([updates[2], updates[4]]))
    await postTaken(page, updates[3])
    const byRest = new Y.Doc()
    Y.applyUpdate(byRest, await server().snapshot(page))
    const bySocket = await newcomer(page)
    const live = await new Client(server(), page).whenSynced()
    const everybody = [byRest, bySocket, live.doc]
    for (const doc of everybody) {
      assert.equal(doc.getText('text').toString(), 'a')
      assert.deepEqual([...doc.store.pendingStructs.missing], [[7, 1]])
      assert.ok(doc.store.pendingDs)
    }
    // What the newcomers have waits here already, and keeps nobody from working.
    live.doc.getText('other').insert(0, 'x')
    await postTaken(page, Y.encodeStateAsUpdate(bySocket))
    // Who lacks some of it is not told the rest again.
    const response = await server().api(`/api/pages/${page}/snapshot?sv=${Buffer.from(hex('010703')).toString('base64url')}`)
    const { structs } = Y.decodeUpdate(new Uint8Array(await response.arrayBuffer()))
    assert.deepEqual(structs.filter(struct => struct.id.client === 7).map(struct => [struct.id.clock, struct.length]), [[3, 1]])
    const third = new Client(server(), page, { connect: false })
    Y.applyUpdate(third.doc, updates[0])
    Y.applyUpdate(third.doc, updates[1])
    third.online()
    await until('the one who is there has it', () => live.text === 'abc')
    await until('the page has it', async () => (await newcomer(page)).getText('text').toString() === 'abc')
    for (const doc of [byRest, bySocket]) {
      Y.applyUpdate(doc, updates[1])
      assert.equal(doc.getText('text').toString(), 'abc')
      assert.equal(doc.store.pendingStructs, null)
      assert.equal(doc.store.pendingDs, null)
    }
  })

  test('a gap in the middle of what one client wrote', async () => {
    const page = freshPage('gap')
    const updates = written(5, ...['a', 'b', 'c', 'd', 'e'].map(letter => append('text', letter)))
    await postTaken(page, Y.mergeUpdates(updates.filter((_, index) => index !== 2)))
    assert.equal((await newcomer(page)).getText('text').toString(), 'ab')
    await postTaken(page, updates[2])
    await until('all letters are there', async () => (await newcomer(page)).getText('text').toString() === 'abcde')
  })

  test('a deletion that comes before what it deletes', async () => {
    const page = freshPage('deletion')
    const [inserted, deleted] = written(6, append('text', 'abc'), doc => doc.getText('text').delete(1, 1))
    await postTaken(page, deleted)
    await postTaken(page, inserted)
    await until('the deletion holds', async () => (await newcomer(page)).getText('text').toString() === 'ac')
  })
})

/** The text under `text` in the map `map`, with everything in it in order. */
const delta = doc => doc.getMap('map').get('text').toDelta()

describe('what undoing brings back before itself', () => {
  // "abc" is undone and redone, and taken apart by pictures. When the text is deleted and that is undone, Yjs looks for what stood
  // behind "b", finds the first "abc", which "a" is the latest copy of, and writes "b" behind and before the new "a".
  for (const [version, Library] of [['13.6', Y], ['13.5.0', Y135]]) {
    for (const before of ['', 'pq']) {
      test(`of Yjs ${version}${before && ', with text before'}`, async () => {
        const page = freshPage('undone')
        const doc = new Library.Doc()
        doc.clientID = 100
        const updates = []
        doc.on('update', update => updates.push(update))
        const map = doc.getMap('map')
        const text = new Library.Text()
        map.set('text', text)
        const undo = new Library.UndoManager([map], { captureTimeout: 0 })
        text.insert(0, before)
        text.insert(before.length, 'abc')
        undo.undo()
        undo.redo()
        text.insertEmbed(before.length + 1, { picture: 1 })
        text.insertEmbed(before.length + 3, { picture: 2 })
        map.delete('text')
        undo.undo()
        const expected = [
          { insert: `${before}a` }, { insert: { picture: 1 } }, { insert: 'b' }, { insert: { picture: 2 } }, { insert: 'c' }
        ]
        assert.deepEqual(delta(doc), expected)
        const twisted = Y.decodeUpdate(updates.at(-1)).structs.filter(({ origin, rightOrigin }) => origin && Y.compareIDs(origin, rightOrigin))
        assert.equal(twisted.length, 1)

        const present = await new Client(server(), page).whenSynced()
        for (const update of updates) await postTaken(page, update)
        await until('the present one has it', () => Y.encodeStateVector(present.doc).join() === Y.encodeStateVector(doc).join())
        const late = await newcomer(page)
        const content = await server().content(page)
        for (const found of [delta(present.doc), delta(late)]) assert.deepEqual(found, expected)
        assert.equal(content.map.text, `${before}abc`)

        // What is written at these places comes to the same place for all.
        const [one, other] = [late, doc].map(copy => {
          const updates = []
          copy.on('update', update => updates.push(update))
          const text = copy.getMap('map').get('text')
          for (let at = text.length; at >= 0; at--) text.insert(at, copy === doc ? 'D' : 'L')
          return updates
        })
        for (const update of one) Library.applyUpdate(doc, update)
        for (const update of other) Y.applyUpdate(late, update)
        for (const update of [...one, ...other]) await postTaken(page, update)
        const all = delta(await newcomer(page))
        for (const found of [delta(doc), delta(late)]) assert.deepEqual(found, all)
        await until('the present one has the rest', () => JSON.stringify(delta(present.doc)) === JSON.stringify(all))
      })
    }
  }

  test('written by anybody, it goes to one place whatever comes first', async () => {
    const [ab, x] = written(100, append('text', 'ab'), doc => doc.getText('text').insert(1, 'X'))
    for (const updates of [[ab, x, between([100, 1], [100, 1])], [ab, between([100, 1], [100, 1]), x]]) {
      const page = freshPage('twisted')
      const present = await new Client(server(), page).whenSynced()
      for (const update of updates) await postTaken(page, update)
      assert.equal((await newcomer(page)).getText('text').toString(), 'aXbY')
      await until('the present one has it', () => present.doc.getText('text').toString() === 'aXbY')
    }
  })
})

describe('honest documents', () => {
  const manyAuthors = 5_000
  const old = () => Y.mergeUpdates(Array.from({ length: manyAuthors }, (_, index) =>
    written(index + 1, doc => doc.getMap('map').set(`key ${index}`, index))[0]))

  test('a page of thousands of authors is imported', async () => {
    const page = freshPage('authors')
    await postTaken(page, old())
    assert.equal((await newcomer(page)).getMap('map').size, manyAuthors)
  })

  test('a page of thousands of authors comes from a client that was offline', async () => {
    const page = freshPage('authors')
    const client = new Client(server(), page, { connect: false })
    Y.applyUpdate(client.doc, old())
    client.online()
    await client.whenSynced()
    await until('all of it is there', async () => (await newcomer(page)).getMap('map').size === manyAuthors)
    assert.deepEqual(client.closes, [])
  })

  test('values nested deep', async () => {
    const page = freshPage('deep')
    let value = 'bottom'
    for (let level = 0; level < 65; level++) value = level % 2 ? { in: value } : [value]
    const [update] = written(7, doc => doc.getMap('map').set('deep', value))
    await postTaken(page, update)
    assert.deepEqual((await newcomer(page)).getMap('map').get('deep'), value)
    assert.deepEqual(documentOf(await server().snapshot(page)).getMap('map').get('deep'), value)
  })
})
