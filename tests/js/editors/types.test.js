// Shared types without an editor: whatever Yjs can hold, on both sides, in REST, and after the server was killed.

import './support/dom.js'

import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'

import * as Y from 'yjs'

import { Server } from '../support/server.js'
import { until } from '../support/wait.js'
import { PROVIDERS } from './support/providers.js'
import { headsOf } from './support/typist.js'

/** Documents that are connected, each with its provider. */
const connected = new Map()

for (const provider of PROVIDERS) {
  describe(provider.name, () => {
    let server
    before(async () => { server = await Server.start() })
    after(async () => {
      for (const doc of [...connected.keys()]) leave(doc)
      await server?.dispose()
    })

    /** Connects a document, a new one unless given, to a page. */
    const join = async (page, doc = new Y.Doc()) => {
      const connection = provider.connect(server.url, page, doc)
      connected.set(doc, connection)
      await until(`somebody joins ${page}`, () => connection.synced)
      return doc
    }

    /** Waits until both, and the server, hold the same. */
    const meet = async (page, one, other) => {
      await until('both hold the same', () => headsOf(one) === headsOf(other))
      await until('the server holds the same', async () => headsOf(await stored(page)) === headsOf(one))
    }

    /** The page as the server has it, read by Yjs. */
    const stored = async page => {
      const doc = new Y.Doc()
      const snapshot = await server.snapshot(page)
      if (snapshot) Y.applyUpdate(doc, snapshot)
      assert.ok(!doc.store.pendingStructs && !doc.store.pendingDs, 'the snapshot has gaps')
      return doc
    }

    /** Checks something of both, of what the server has, and of what somebody new gets before and after the server is killed. */
    const everywhere = async (page, one, other, check) => {
      await meet(page, one, other)
      const look = async () => {
        check(await stored(page))
        const late = await join(page)
        await until('somebody new holds the same', () => headsOf(late) === headsOf(one))
        check(late)
        leave(late)
      }
      check(one)
      check(other)
      await look()
      await server.restart()
      await look()
    }

    test('maps and arrays within each other, changed by two at once', async () => {
      const page = `${provider.name}/nested`
      const ada = await join(page)
      const bob = await join(page)
      ada.transact(() => {
        const tasks = Y.Array.from([task('write', ['a', 'b']), task('read', []), task('rest', [{ deep: [null, true, 1.5] }])])
        ada.getMap('board').set('tasks', tasks)
        ada.getMap('board').set('title', new Y.Text('Plan 😀'))
      })
      await meet(page, ada, bob)
      const tasks = doc => doc.getMap('board').get('tasks')
      // None of them hears of the others' changes in between.
      tasks(ada).get(0).set('name', 'write more')
      tasks(bob).get(0).get('tags').push(['c', '日本'])
      tasks(ada).get(0).get('tags').delete(0, 1)
      tasks(bob).insert(1, [task('between', [])])
      tasks(ada).delete(1, 1)
      tasks(bob).get(3).set('within', new Y.Map([['map', new Y.Map([['in', Y.Array.from([new Y.Map()])]])]]))
      ada.getMap('board').get('title').insert(0, '👩‍👩‍👧 ')
      bob.getMap('board').get('title').format(0, 4, { bold: true })
      const expected = {
        title: '👩‍👩‍👧 Plan 😀',
        tasks: [
          { name: 'write more', tags: ['b', 'c', '日本'] },
          { name: 'between', tags: [] },
          { name: 'rest', tags: [{ deep: [null, true, 1.5] }], within: { map: { in: [{}] } } }
        ]
      }
      await everywhere(page, ada, bob, doc => assert.deepEqual(doc.getMap('board').toJSON(), expected))
      assert.deepEqual(await server.content(page), { board: expected })
    })

    test('the last of two who set an entry at once is the same everywhere, and what it replaced is gone', async () => {
      const page = `${provider.name}/entry`
      const ada = await join(page)
      const bob = await join(page)
      const map = doc => doc.getMap('map')
      map(ada).set('who', new Y.Map([['name', 'Ada'], ['notes', new Y.Text('of Ada')]]))
      map(bob).set('who', new Y.Map([['name', 'Bob'], ['notes', new Y.Text('of Bob')]]))
      await meet(page, ada, bob)
      const { who } = map(ada).toJSON()
      assert.ok(['Ada', 'Bob'].includes(who.name))
      assert.equal(who.notes, `of ${who.name}`)
      await everywhere(page, ada, bob, doc => assert.deepEqual(map(doc).toJSON(), { who }))
      assert.deepEqual(await server.content(page), { map: { who } })
    })

    test('a type that one deletes while another writes in it is gone with all that is in it', async () => {
      const page = `${provider.name}/deleted`
      const ada = await join(page)
      const bob = await join(page)
      const list = doc => doc.getArray('list')
      list(ada).insert(0, [new Y.Map([['text', new Y.Text('forgotten')], ['list', Y.Array.from([new Y.Map([['a', 'forgotten']])])]]), 'kept'])
      await meet(page, ada, bob)
      list(ada).delete(0, 1)
      list(bob).get(0).get('text').insert(0, 'also forgotten')
      list(bob).get(0).get('list').push([new Y.Array(), 'also forgotten'])
      list(bob).get(0).set('more', new Y.XmlElement('p'))
      await everywhere(page, ada, bob, doc => assert.deepEqual(list(doc).toJSON(), ['kept']))
      assert.deepEqual(await server.content(page), { list: ['kept'] })
      const snapshot = Buffer.from(await server.snapshot(page))
      assert.ok(!snapshot.includes('forgotten'), 'what is deleted is not kept')
    })

    test('a document in a document is a page of its own, by its guid', async () => {
      const page = `${provider.name}/parent`
      const guid = `${provider.name}/child/ü`
      const ada = await join(page)
      const bob = await join(page)
      const child = new Y.Doc({ guid, autoLoad: true, meta: { kind: 'note' } })
      ada.getMap('children').set('note', child)
      ada.getArray('order').push([new Y.Doc({ guid: `${guid}/other` })])
      await meet(page, ada, bob)
      const found = bob.getMap('children').get('note')
      assert.deepEqual([found.guid, found.autoLoad, found.shouldLoad, found.meta], [guid, true, true, { kind: 'note' }])
      assert.equal(bob.getArray('order').get(0).shouldLoad, false)
      await join(guid, child)
      await join(guid, found)
      child.getText('text').insert(0, 'from Ada 😀')
      found.getText('text').insert(0, 'from Bob ')
      await everywhere(guid, child, found, doc => {
        assert.deepEqual(doc.getText('text').toString().match(/from Ada 😀|from Bob /g).sort(), ['from Ada 😀', 'from Bob '])
      })
      await everywhere(page, ada, bob, doc => {
        assert.deepEqual([...doc.subdocs].map(one => one.guid).sort(), [guid, `${guid}/other`])
      })
      assert.deepEqual(await server.content(page), { children: { note: { guid } }, order: [{ guid: `${guid}/other` }] })
      assert.deepEqual(await server.content(guid), { text: child.getText('text').toString() })

      // The page stays when nobody names it any more.
      bob.getMap('children').delete('note')
      await everywhere(page, ada, bob, doc => assert.equal(doc.getMap('children').size, 0))
      assert.equal((await server.content(guid)).text.length, 'from Ada 😀from Bob '.length)
    })

    test('XML: elements, attributes, formatted text', async () => {
      const page = `${provider.name}/xml`
      const ada = await join(page)
      const bob = await join(page)
      const xml = doc => doc.getXmlFragment('xml')
      const element = (name, attributes, ...children) => {
        const made = new Y.XmlElement(name)
        for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value)
        made.insert(0, children)
        return made
      }
      xml(ada).insert(0, [
        element('h1', { id: 'a' }, new Y.XmlText('Title 😀')),
        element('ul', {}, element('li', {}, new Y.XmlText('one')), element('li', {}, new Y.XmlText('two')))
      ])
      await meet(page, ada, bob)
      xml(ada).get(0).setAttribute('id', 'b')
      xml(bob).get(0).setAttribute('class', 'big')
      xml(ada).get(0).get(0).format(0, 5, { em: {} })
      xml(bob).get(0).get(0).insert(8, ' and more')
      xml(ada).get(1).insert(1, [element('li', {}, new Y.XmlText('between'))])
      xml(bob).get(1).delete(0, 1)
      xml(bob).insertAfter(xml(bob).get(1), [new Y.XmlText('bare'), element('hr', {})])
      const expected = '<h1 class="big" id="b"><em>Title</em> 😀 and more</h1><ul><li>between</li><li>two</li></ul>bare<hr></hr>'
      await everywhere(page, ada, bob, doc => assert.equal(xml(doc).toString(), expected))
      assert.deepEqual(await server.content(page), { xml: expected })
      const text = await server.api(`/api/pages/${encodeURIComponent(page)}/content?format=text`)
      assert.equal(await text.text(), 'Title 😀 and more\nbetween\ntwo\nbare\n')
    })

    test('big integers, bytes and every other value', async () => {
      const page = `${provider.name}/values`
      const ada = await join(page)
      const bob = await join(page)
      const bytes = Uint8Array.from({ length: 300 }, (_, index) => index % 256)
      const values = {
        big: 2n ** 62n + 1n, negative: -(2n ** 62n) - 1n, bytes, none: new Uint8Array(),
        whole: 2 ** 40, part: 0.1, wide: Number.MAX_SAFE_INTEGER, zero: 0, long: 'ü😀'.repeat(500),
        yes: true, no: false, nothing: null, list: [1, [2n ** 60n + 1n, [bytes]], { deep: { er: [] } }], object: {}
      }
      for (const [key, value] of Object.entries(values)) ada.getMap('map').set(key, value)
      bob.getArray('array').insert(0, [{ in: values.big }, bytes, null])
      bob.getArray('array').insert(1, [bytes])
      ada.getText('text').insertEmbed(0, { image: 'x', size: 3 })
      await everywhere(page, ada, bob, doc => {
        assert.deepEqual(Object.fromEntries(doc.getMap('map').entries()), values)
        assert.deepEqual(doc.getArray('array').toArray(), [{ in: values.big }, bytes, bytes, null])
        assert.deepEqual(doc.getText('text').toDelta(), [{ insert: { image: 'x', size: 3 } }])
      })
      const { map, array } = await server.content(page)
      // Bytes are what JSON makes of a Uint8Array: an object by index.
      assert.deepEqual({ map, array }, JSON.parse(JSON.stringify(
        { map: values, array: [{ in: values.big }, bytes, bytes, null] },
        (_, value) => typeof value === 'bigint' ? Number(value) : value)))
      const exact = await (await server.api(`/api/pages/${encodeURIComponent(page)}/content?format=json`)).text()
      assert.ok(exact.includes(`"big":${values.big}`) && exact.includes(`"negative":${values.negative}`))
    })

    test('big integers that a number could hold as well', async () => {
      const page = `${provider.name}/integers`
      const ada = await join(page)
      const bob = await join(page)
      ada.getMap('map').set('small', 7n)
      ada.getMap('map').set('round', 2n ** 62n)
      await everywhere(page, ada, bob, doc => assert.deepEqual(doc.getMap('map').toJSON(), { small: 7n, round: 2n ** 62n }))
    })

    test('an emoji that somebody cuts in two reads the same everywhere', async () => {
      const page = `${provider.name}/cut`
      const ada = await join(page)
      const bob = await join(page)
      const text = doc => doc.getText('text')
      text(ada).insert(0, 'a😀b c😀d e😀f')
      await meet(page, ada, bob)
      text(ada).insert(2, 'X')
      text(bob).delete(12, 1)
      text(bob).format(6, 1, { bold: true })
      await meet(page, ada, bob)
      const expected = text(ada).toDelta()
      assert.ok(text(ada).toString().startsWith('a\ufffdX\ufffdb'))
      await everywhere(page, ada, bob, doc => assert.deepEqual(text(doc).toDelta(), expected))
      assert.deepEqual(await server.content(page), { text: text(ada).toString() })
    })
  })
}

const task = (name, tags) => new Y.Map([['name', name], ['tags', Y.Array.from(tags)]])

function leave (doc) {
  connected.get(doc)?.destroy()
  connected.delete(doc)
  doc.destroy()
}
