// The promise behind "saved": nothing is forgotten before an update from the server has shown it.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as Y from 'yjs'

import { Unsaved } from '../source/unsaved.js'

/** A document whose updates are noted as written here. @param {number} clientId */
function writer(clientId) {
  const doc = new Y.Doc()
  doc.clientID = clientId
  const unsaved = new Unsaved()
  /** @type {Uint8Array[]} */
  const updates = []
  doc.on('update', (update, origin) => {
    if (origin === 'server') return
    updates.push(update)
    unsaved.wrote(update)
  })
  return { doc, text: doc.getText('text'), unsaved, updates }
}

test('an insertion is unsaved until its echo arrives', () => {
  const { text, unsaved, updates } = writer(1)
  assert.equal(unsaved.isEmpty, true)
  text.insert(0, 'hello')
  assert.equal(unsaved.isEmpty, false)
  assert.equal(unsaved.confirmed(updates[0]), true)
  assert.equal(unsaved.isEmpty, true)
})

test('a part of an echo leaves the rest unsaved, in whatever order the parts come', () => {
  const { text, unsaved, updates } = writer(1)
  for (const letter of 'abc') text.insert(text.length, letter)
  unsaved.confirmed(updates[1])
  unsaved.confirmed(updates[0])
  assert.equal(unsaved.isEmpty, false)
  unsaved.confirmed(updates[2])
  assert.equal(unsaved.isEmpty, true)
})

test('several updates may come back merged as one', () => {
  const { text, unsaved, updates } = writer(1)
  text.insert(0, 'one')
  text.insert(1, 'two')
  text.delete(0, 2)
  unsaved.confirmed(Y.mergeUpdates(updates))
  assert.equal(unsaved.isEmpty, true)
})

test('an echo may contain more than what still waits', () => {
  const { doc, text, unsaved, updates } = writer(1)
  for (const letter of 'abc') text.insert(text.length, letter)
  unsaved.confirmed(updates[1])
  assert.equal(unsaved.confirmed(Y.encodeStateAsUpdate(doc)), true)
  assert.equal(unsaved.isEmpty, true)
})

test('a deletion is unsaved until its echo arrives, even of what somebody else wrote', () => {
  const bob = writer(2)
  bob.text.insert(0, 'bob was here')
  const { doc, text, unsaved, updates } = writer(1)
  Y.applyUpdate(doc, bob.updates[0], 'server')
  assert.equal(unsaved.isEmpty, true)
  text.delete(0, 4)
  assert.equal(unsaved.isEmpty, false)
  unsaved.confirmed(bob.updates[0])
  assert.equal(unsaved.isEmpty, false, 'the letters themselves are no echo of their deletion')
  unsaved.confirmed(updates[0])
  assert.equal(unsaved.isEmpty, true)
})

test('what others write confirms nothing', () => {
  const bob = writer(2)
  bob.text.insert(0, 'a long text by somebody else')
  const { text, unsaved } = writer(1)
  text.insert(0, 'mine')
  assert.equal(unsaved.confirmed(bob.updates[0]), false)
  assert.equal(unsaved.isEmpty, false)
})

test('a gap in an echo is not taken for content', () => {
  const { text, unsaved, updates } = writer(1)
  for (const letter of 'abc') text.insert(text.length, letter)
  unsaved.confirmed(Y.mergeUpdates([updates[0], updates[2]]))
  assert.equal(unsaved.isEmpty, false)
  unsaved.confirmed(updates[1])
  assert.equal(unsaved.isEmpty, true)
})

test('a diff against the lowered state vector brings everything unconfirmed, and no more of oneself than needed', () => {
  const { doc, text, unsaved, updates } = writer(1)
  text.insert(0, 'stored')
  unsaved.confirmed(updates[0])
  text.insert(6, ' not')
  text.delete(0, 1)
  const everything = Y.decodeStateVector(Y.encodeStateVector(doc))
  const lowered = unsaved.lower(everything)
  assert.equal(lowered.get(1), 6)
  assert.equal(everything.get(1), 10, 'the argument stays as it is')
  assert.equal(unsaved.lower(new Map([[1, 2]])).get(1), 2, 'what the server lacks besides is sent as well')

  const repeated = Y.encodeStateAsUpdate(doc, Y.encodeStateVector(lowered))
  assert.equal(Y.decodeUpdate(repeated).structs[0].id.clock, 6)
  unsaved.confirmed(repeated)
  assert.equal(unsaved.isEmpty, true)
})

test('a server that has nothing of a client is asked for nothing more than that', () => {
  const { text, unsaved } = writer(1)
  text.insert(0, 'abc')
  assert.deepEqual(unsaved.lower(new Map([[7, 3]])), new Map([[7, 3], [1, 0]]))
})

test('random echoes in random order confirm exactly what they contain', () => {
  let state = 20240607
  const random = (/** @type {number} */ below) => (state = (state * 48271) % 2147483647) % below
  for (let round = 0; round < 200; round++) {
    const { text, unsaved, updates } = writer(1 + random(1000))
    for (let edit = 0; edit < 12; edit++) {
      if (text.length > 0 && random(3) === 0) text.delete(random(text.length), 1)
      else text.insert(random(text.length + 1), 'x'.repeat(1 + random(3)))
    }
    while (updates.length > 0) {
      assert.equal(unsaved.isEmpty, false)
      const echoed = updates.splice(random(updates.length), 1 + random(3))
      unsaved.confirmed(Y.mergeUpdates(echoed))
    }
    assert.equal(unsaved.isEmpty, true)
  }
})
