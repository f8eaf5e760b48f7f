// GET /api/pages/{id}/content?format=json gives what `toJSON` of real Yjs gives, of every kind of content wherever it may stand, as
// JSON.stringify writes it; and what cannot be shown is named.

import { test } from 'node:test'
import assert from 'node:assert/strict'

import * as Y from 'yjs'

import { canonical } from './support/clients.js'
import { freshPage, serverForFile } from './support/suite.js'

const server = serverForFile()

const xml = (name, attributes = {}, children = []) => {
  const element = new Y.XmlElement(name)
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value)
  element.insert(0, children)
  return element
}

const fragment = children => {
  const made = new Y.XmlFragment()
  made.insert(0, children)
  return made
}

const formatted = (...pieces) => {
  const text = new Y.XmlText()
  text.applyDelta(pieces.map(([insert, attributes]) => ({ insert, attributes })))
  return text
}

/** Each with the roots that it writes: by name, how the root is opened and what is put in it. */
const DOCUMENTS = {
  'a list that begins with a word and holds a map, a number and XML': {
    list: ['getArray', root => root.push(['title', new Y.Map([['a', 1]]), 42, xml('p', { class: 'x' }, [new Y.XmlText('in it')])])]
  },
  'a list of fragments, one of them empty': {
    slides: ['getArray', root => root.push([fragment([xml('p')]), fragment([]), fragment([new Y.XmlText('t'), xml('h1')])])]
  },
  'a list of XML and nothing else, beside a map that holds some': {
    map: ['getMap', root => {
      root.set('xml', xml('note', { n: 7 }))
      root.set('text', formatted(['bold', { b: {} }], [' plain']))
      root.set('fragment', fragment([xml('p'), xml('q')]))
    }]
  },
  'attributes of every kind': {
    xml: ['getXmlFragment', root => root.push([xml('p', {
      text: 'v', number: 2.5, large: 1e21, small: 1e-7, negative: -0, yes: true, nothing: null, list: [1, [2, null], 'x'], object: { a: 1 },
      bytes: Uint8Array.of(1, 2), unknown: undefined
    })])]
  },
  'bytes in lists, in maps and in values': {
    list: ['getArray', root => root.push([Uint8Array.of(0, 255), new Uint8Array(0), [Uint8Array.of(7)], { in: Uint8Array.of(9) }])],
    map: ['getMap', root => root.set('bytes', Uint8Array.of(1, 2, 3))]
  },
  'what JSON cannot say': {
    list: ['getArray', root => root.push([[undefined], { a: undefined, b: 1 }, [NaN, Infinity, -Infinity], 'end'])],
    map: ['getMap', root => { root.set('nothing', null); root.set('list', [undefined, NaN]); root.set('unknown', undefined) }]
  },
  'numbers at the edges': {
    list: ['getArray', root => root.push([0, -1, 9007199254740991, -9007199254740991, 2147483648, 5e-324, 1.7976931348623157e308, 0.1, 1e21, 1e19])]
  },
  'types within types': {
    map: ['getMap', root => {
      const inner = new Y.Map([['text', new Y.Text('inner')], ['list', Y.Array.from([new Y.Map([['deep', Y.Array.from([[]])]])])]])
      root.set('inner', inner)
      root.set('gone', new Y.Map([['x', 1]]))
      root.delete('gone')
      root.set('replaced', 1)
      root.set('replaced', new Y.Array())
    }]
  },
  'text with formats and embeds': {
    text: ['getText', root => root.applyDelta([
      { insert: 'bold', attributes: { bold: true } }, { insert: { image: 'a.png' } }, { insert: ' 😀 日本\n' }, { insert: new Y.Map([['x', 1]]) }, { insert: 'end' }
    ])]
  },
  'XML text with formats, elements of upper case': {
    xml: ['getXmlFragment', root => root.push([
      formatted(['both', { b: {}, a: { href: 'x', at: 'y' } }], ['<&>"']), xml('UPPER', {}, [xml('Inner'), formatted(['em', { em: true }])])
    ])]
  },
  'deleted content in every kind of root': {
    text: ['getText', root => { root.insert(0, 'abcdef'); root.delete(1, 3) }],
    list: ['getArray', root => { root.push([1, new Y.Map([['a', 1]]), 3]); root.delete(1, 1) }],
    map: ['getMap', root => { root.set('a', 1); root.set('b', 2); root.delete('a') }],
    xml: ['getXmlFragment', root => { root.push([xml('p'), xml('q')]); root.delete(0, 1) }]
  }
}

const written = roots => {
  const doc = new Y.Doc()
  const expected = {}
  for (const [name, [open, write]] of Object.entries(roots)) {
    const root = doc[open](name)
    doc.transact(() => write(root))
    expected[name] = root.toJSON()
  }
  // What is said over HTTP is what JSON.stringify makes of it.
  return { update: Y.encodeStateAsUpdate(doc), expected: JSON.parse(JSON.stringify(expected)) }
}

async function shown (update) {
  const page = freshPage('content')
  const posted = await server().api(`/api/pages/${page}/updates`, { method: 'POST', body: update })
  assert.equal(posted.status, 200, await posted.text())
  return { page, content: await server().content(page) }
}

for (const [name, roots] of Object.entries(DOCUMENTS)) {
  test(name, async () => {
    const { update, expected } = written(roots)
    const { page, content } = await shown(update)
    assert.deepEqual(canonical(content), canonical(expected))
    for (const root of Object.keys(roots)) {
      const response = await server().api(`/api/pages/${page}/content?format=json&field=${root}`)
      assert.deepEqual(canonical(await response.json()), canonical(expected[root]), root)
    }
  })
}

test('a big integer is a number, which JSON.stringify would refuse', async () => {
  const doc = new Y.Doc()
  doc.getArray('list').push([[5n, 9223372036854775807n]])
  const { content } = await shown(Y.encodeStateAsUpdate(doc))
  assert.equal(content.list[0][0], 5)
  assert.equal(content.list[0][1], Number(9223372036854775807n))
})

test('a subdocument is shown by its id, which JSON.stringify could not write', async () => {
  const doc = new Y.Doc()
  doc.getMap('map').set('sub', new Y.Doc({ guid: 'a-guid' }))
  doc.getArray('list').push([new Y.Doc({ guid: 'another' }), 1])
  const { content } = await shown(Y.encodeStateAsUpdate(doc))
  assert.deepEqual(content, { list: [{ guid: 'another' }, 1], map: { sub: { guid: 'a-guid' } } })
})
