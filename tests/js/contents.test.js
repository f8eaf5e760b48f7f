// Whole contents that clients without Yjs save, with the public Socket.IO client, beside a Yjs client in the same page.

import { after, describe, test } from 'node:test'
import assert from 'node:assert/strict'

import { io } from './support/asyncapi.js'
import * as Y from 'yjs'
import { WebsocketProvider } from 'y-websocket-3.1.0'
import WebSocket from 'ws'

import { freshPage, serverForFile } from './support/suite.js'
import { JWT_SECRET, tokenFor } from './support/tokens.js'
import { until } from './support/wait.js'

const server = serverForFile({ env: { JWT_SECRET } })

const ends = []
after(() => ends.forEach(end => end()))

/** A client that shows what it is sent and saves what it has, as an application without Yjs does. */
async function connect (user, pageId, transports, role = 'edit') {
  const auth = { token: tokenFor(user, { '*': role }) }
  const socket = io(server().url, { transports, auth, forceNew: true, reconnection: false })
  ends.push(() => socket.disconnect())
  const client = { socket, shown: null, told: [] }
  socket.on('page_updated', ({ content, version, userId }) => {
    client.shown = content
    client.told.push({ content, version, userId })
  })
  await new Promise((resolve, reject) => socket.on('connect', resolve).on('connect_error', reject))
  client.ask = (event, body) => socket.timeout(10_000).emitWithAck(event, body)
  client.save = async content => {
    client.shown = content
    const answer = await client.ask('page_updated', { pageId, content })
    assert.equal(answer.ok, true, JSON.stringify(answer))
    return answer.seq
  }
  assert.equal((await client.ask('join_page', pageId)).ok, true)
  return client
}

/** A Yjs client of the same page. */
async function yjs (user, pageId) {
  const doc = new Y.Doc()
  const params = { token: tokenFor(user, { '*': 'edit' }) }
  const provider = new WebsocketProvider(server().url.replace('http', 'ws') + '/ws', pageId, doc, { params, WebSocketPolyfill: WebSocket, disableBc: true })
  ends.push(() => {
    provider.destroy()
    doc.destroy()
  })
  await until(`${user} is in sync`, () => provider.synced)
  return doc
}

for (const transports of [['websocket'], ['polling'], ['polling', 'websocket']]) {
  describe(transports.join(' and then '), () => {
    test('saves of several clients and a Yjs client end in one content', async () => {
      const pageId = freshPage()
      const ada = await connect('ada', pageId, transports)
      const seq = await ada.save('one two three')
      assert.ok(seq > 0)
      const ben = await connect('ben', pageId, transports)
      await until('Ben is sent what there is', () => ben.shown === 'one two three')
      assert.equal(ben.told[0].userId, null)
      const cleo = await yjs('cleo', pageId)
      const text = cleo.getText('content')
      assert.equal(text.toString(), 'one two three')
      // All at once, each from what it has.
      text.insert(text.length, ' four')
      await Promise.all([ada.save('zero one two three'), ben.save('one TWO three')])
      const expected = 'zero one TWO three four'
      await until('all have all of it', () => [ada.shown, ben.shown, text.toString()].every(content => content === expected))
      assert.ok(ben.told.some(told => told.userId === 'ada'), 'it is said whose save it was')
    })

    test('what Yjs clients write is sent edit after edit, to who has saved and to who has not', async () => {
      const pageId = freshPage()
      const [ada, ben] = [await connect('ada', pageId, transports), await connect('ben', pageId, transports)]
      await ada.save('saved')
      await until('Ben has it', () => ben.shown === 'saved')
      const text = (await yjs('cleo', pageId)).getText('content')
      for (let n = 0; n < 4; n++) {
        text.insert(0, `${n} `)
        await until(() => `both have ${text}: ${ada.shown}, ${ben.shown}`, () => [ada, ben].every(({ shown }) => shown === text.toString()))
      }
    })

    test('who loads again sees the merge, and an empty page says nothing', async () => {
      const pageId = freshPage()
      const ada = await connect('ada', pageId, transports)
      assert.equal(ada.told.length, 0)
      await ada.save('first')
      await ada.save('first and second')
      const again = await connect('ada', pageId, transports)
      await until('it is sent the merge', () => again.shown === 'first and second')
    })

    test('rich text is merged paragraph by paragraph', async () => {
      const pageId = freshPage()
      const [ada, ben] = [await connect('ada', pageId, transports), await connect('ben', pageId, transports)]
      const html = content => ({ pageId, content, format: 'html' })
      assert.equal((await ada.ask('page_updated', html('<p>one</p>'))).ok, true)
      await until('Ben has it', () => ben.shown === '<p>one</p>')
      const answers = await Promise.all([
        ada.ask('page_updated', html('<h2>head</h2><p>one</p>')),
        ben.ask('page_updated', html('<p>one</p><ul><li><p>item</p></li></ul>'))
      ])
      assert.deepEqual(answers.map(answer => answer.ok), [true, true], JSON.stringify(answers))
      const expected = '<h2>head</h2><p>one</p><ul><li><p>item</p></li></ul>'
      await until('both have both', () => ada.shown === expected && ben.shown === expected)
      const doc = await yjs('cleo', pageId)
      const nodes = doc.getXmlFragment('default').toArray().map(node => node.nodeName)
      assert.deepEqual(nodes, ['heading', 'paragraph', 'bulletList'], 'as an editor with Collaboration reads it')
    })

    test('a reader saves nothing', async () => {
      const pageId = freshPage()
      const eve = await connect('eve', pageId, transports, 'view')
      const answer = await eve.ask('page_updated', { pageId, content: 'x' })
      assert.equal(answer.error.code, 'read_only')
    })
  })
}
