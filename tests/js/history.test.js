// Versions of a page as clients of real Yjs have it: restored with every kind of content, seen by those who are there, and undone by a
// client's own undo manager.

import { test } from 'node:test'
import assert from 'node:assert/strict'

import { Client } from './support/clients.js'
import { freshPage, serverForFile } from './support/suite.js'
import { until } from './support/wait.js'

const server = serverForFile()

const open = async page => {
  const client = new Client(server(), page)
  await until('the page', () => client.provider.synced)
  return client
}

/** All that a document says, with formats. */
const said = doc => ({
  text: doc.getText('text').toDelta(),
  map: doc.getMap('map').toJSON(),
  list: doc.getArray('list').toJSON(),
  xml: doc.getXmlFragment('xml').toString()
})

const same = (left, right) => JSON.stringify(left) === JSON.stringify(right)

const post = async (page, path, body = {}) => {
  const response = await server().api(`/api/pages/${page}/${path}`, {
    method: 'POST', body: JSON.stringify(body), headers: { 'content-type': 'application/json' }
  })
  const answer = await response.json()
  assert.ok(response.ok, JSON.stringify(answer))
  return answer
}

const stored = async (page, doc) => {
  await until('everything stored', async () => {
    const response = await server().api(`/api/pages/${page}/snapshot`)
    if (response.status !== 200) return false
    const { Y } = doc.version
    const copy = new Y.Doc()
    Y.applyUpdate(copy, new Uint8Array(await response.arrayBuffer()))
    return same(said(copy), said(doc.doc))
  })
}

/** Writes something of every kind. */
const write = ({ doc, version: { Y } }) => doc.transact(() => {
  const text = doc.getText('text')
  text.insert(0, 'plain ')
  text.insert(6, 'bold', { bold: true })
  text.insertEmbed(10, { image: 'x' })
  text.insert(11, ' end', {})
  const map = doc.getMap('map')
  map.set('a', 1)
  map.set('nested', new Y.Map([['x', new Y.Text('deep')], ['y', [1, 2]]]))
  doc.getArray('list').push(['one', new Y.Map([['k', 'v']]), 3])
  const paragraph = new Y.XmlElement('p')
  paragraph.setAttribute('align', 'left')
  const words = new Y.XmlText()
  words.applyDelta([{ insert: 'some ' }, { insert: 'marked', attributes: { em: true } }])
  paragraph.insert(0, [words])
  doc.getXmlFragment('xml').insert(0, [paragraph, new Y.XmlElement('hr')])
})

/** Changes and deletes something of every kind. */
const change = ({ doc, version: { Y } }) => {
  doc.transact(() => {
    const text = doc.getText('text')
    text.delete(3, 9)
    text.format(0, 3, { italic: true })
    text.insert(1, 'other')
  })
  doc.getMap('map').set('a', 2)
  doc.getMap('map').set('a', 3)
  doc.getMap('map').get('nested').get('x').insert(4, 'er')
  doc.getMap('map').delete('nested')
  doc.getMap('map').set('new', true)
  doc.getArray('list').delete(0, 2)
  doc.getArray('list').insert(0, ['zero'])
  const xml = doc.getXmlFragment('xml')
  xml.get(0).setAttribute('align', 'right')
  xml.get(0).get(0).delete(2, 6)
  xml.delete(0, 1)
  xml.insert(1, [new Y.XmlElement('h1')])
}

test('a restored version is what it was, for those who are there and for those who come', async () => {
  const page = freshPage('history')
  const [ada, bob] = [await open(page), await open(page)]
  write(ada)
  await until('what Ada wrote', () => same(said(bob.doc), said(ada.doc)))
  await stored(page, ada)
  const then = said(ada.doc)
  const { version } = await post(page, 'versions', { name: 'then' })
  change(bob)
  await until('what Bob wrote', () => same(said(bob.doc), said(ada.doc)))
  await stored(page, bob)
  const now = said(bob.doc)
  assert.ok(!same(now, then))

  const { Y } = ada.version
  const scope = ['text', 'map', 'list', 'xml'].map((name, n) => ada.doc[['getText', 'getMap', 'getArray', 'getXmlFragment'][n]](name))
  const undoing = new Y.UndoManager(scope, { trackedOrigins: new Set([ada.provider]), captureTimeout: 0 })
  await post(page, `versions/${version}/restore`)
  await until('what was then, at Ada\'s', () => same(said(ada.doc), then))
  await until('what was then, at Bob\'s', () => same(said(bob.doc), then))
  const carl = await open(page)
  assert.deepEqual(said(carl.doc), then)

  // A client that wants to undo it does so as it undoes anything.
  undoing.undo()
  assert.deepEqual(said(ada.doc), now)
  await until('what was before, at all', () => same(said(bob.doc), now) && same(said(carl.doc), now))
})

test('what a client wrote offline stays beside a restored version', async () => {
  const page = freshPage('history')
  const [ada, bob] = [await open(page), await open(page)]
  ada.doc.getText('text').insert(0, 'one two three')
  await until('what Ada wrote', () => bob.doc.getText('text').length === 13)
  await stored(page, ada)
  const { version } = await post(page, 'versions')
  bob.doc.getText('text').delete(4, 4)
  await stored(page, bob)
  await until('what Bob deleted', () => ada.doc.getText('text').length === 9)
  ada.provider.disconnect()
  ada.doc.getText('text').insert(9, ' four')
  ada.doc.getText('text').insert(0, 'zero ')
  await post(page, `versions/${version}/restore`)
  await until('what was then', () => bob.doc.getText('text').toString() === 'one two three')
  ada.provider.connect()
  for (const client of [ada, bob]) {
    await until('both', () => client.doc.getText('text').toString() === 'zero one two three four')
  }
})

test('changes are told as they are stored', async () => {
  const page = freshPage('history')
  const ada = await open(page)
  ada.doc.getText('text').insert(0, 'x')
  await stored(page, ada)
  const stop = new AbortController()
  const response = await fetch(`${server().url}/api/pages/${page}/changes?since=0`, {
    headers: { accept: 'text/event-stream' }, signal: stop.signal
  })
  const heard = []
  const reading = (async () => {
    for await (const chunk of response.body.pipeThrough(new TextDecoderStream())) {
      heard.push(...chunk.split('\n').filter(line => line.startsWith('id:')).map(line => Number(line.slice(3))))
    }
  })().catch(() => {})
  await until('the first', () => heard.length === 1)
  ada.doc.getText('text').insert(0, 'y')
  await until('the second', () => heard.length === 2)
  assert.deepEqual(heard, [1, 2])
  stop.abort()
  await reading
})
