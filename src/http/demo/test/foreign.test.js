// Content of other applications is noticed before an editor that does not know it could delete it.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as Y from 'yjs'

import { foreignNames } from '../source/foreign.js'

const SCHEMA = /** @type {any} */ ({ nodes: { paragraph: {}, text: {} }, marks: { bold: {} } })

/** What is noticed when a page takes over what `write` does to another replica of it. @param {(root: Y.XmlFragment) => void} write @param {Y.Doc} [page] */
function noticed(write, page = new Y.Doc()) {
  const other = new Y.Doc()
  Y.applyUpdate(other, Y.encodeStateAsUpdate(page))
  /** @type {string[][]} */
  const found = []
  const root = page.getXmlFragment('default')
  page.on('beforeObserverCalls', (transaction) => found.push(foreignNames(transaction, root, SCHEMA)))
  write(other.getXmlFragment('default'))
  Y.applyUpdate(page, Y.encodeStateAsUpdate(other), 'server')
  return found.flat()
}

/** @param {string} text @param {object} [attributes] */
function paragraph(text, attributes) {
  const element = new Y.XmlElement('paragraph')
  const content = new Y.XmlText()
  content.insert(0, text, attributes)
  element.insert(0, [content])
  return element
}

test('known nodes and marks, overlapping ones as well, are not foreign', () => {
  assert.deepEqual(noticed((root) => root.insert(0, [paragraph('a', { bold: true, 'bold--AbC+/12=': true })])), [])
})

test('an unknown node is found at any depth', () => {
  const inside = paragraph('a')
  inside.insert(0, [new Y.XmlElement('mention')])
  assert.deepEqual(noticed((root) => root.insert(0, [inside, new Y.XmlElement('table')])), ['mention', 'table'])
})

test('an unknown mark is found, also when it comes to old text', () => {
  assert.deepEqual(noticed((root) => root.insert(0, [paragraph('a', { highlight: {} })])), ['highlight'])
  const page = new Y.Doc()
  page.getXmlFragment('default').insert(0, [paragraph('old')])
  const format = (/** @type {any} */ root) => root.get(0).get(0).format(0, 3, { comment: { id: 1 } })
  assert.deepEqual(noticed(format, page), ['comment'])
})

test('other parts of the document may hold what they like', () => {
  assert.deepEqual(noticed((root) => root.doc?.getXmlFragment('board').insert(0, [new Y.XmlElement('shape')])), [])
})
