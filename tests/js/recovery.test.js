// socket.io-client as it is: connections that are lost go on where they were, and an indexer's clients work as they were written.

import { createServer, connect } from 'node:net'
import { describe, test } from 'node:test'
import assert from 'node:assert/strict'

import { io } from './support/asyncapi.js'

import { Server, freePort } from './support/server.js'
import { JWT_SECRET, tokenFor } from './support/tokens.js'
import { until } from './support/wait.js'

const INDEXER_SERVICE_TOKEN = 'token-of-the-indexer-in-the-tests-0123456789'

/** Carries bytes to a port, until it is cut: then every connection breaks and none is made. */
class Wire {
  connections = new Set()
  isCut = false

  static async to (target) {
    const wire = new Wire()
    wire.port = await freePort()
    wire.server = createServer(near => {
      const far = connect(target, '127.0.0.1')
      for (const [one, other] of [[near, far], [far, near]]) {
        wire.connections.add(one)
        one.on('data', bytes => { other.write(bytes) })
        one.on('error', () => {})
        one.on('close', () => { wire.connections.delete(one); other.destroy() })
      }
      if (wire.isCut) near.destroy()
    })
    await new Promise(resolve => wire.server.listen(wire.port, '127.0.0.1', resolve))
    return wire
  }

  get url () { return `http://127.0.0.1:${this.port}` }

  cut () {
    this.isCut = true
    for (const connection of this.connections) connection.destroy()
  }

  mend () { this.isCut = false }

  close () {
    this.cut()
    this.server.close()
  }
}

async function tell (server, channelId, event, payload, token) {
  const response = await server.api('/api/broadcast', {
    method: 'POST', body: JSON.stringify({ channelId, event, payload }), ...(token ? { token } : {})
  })
  const answer = await response.json()
  assert.equal(response.status, 200, JSON.stringify(answer))
  return answer.delivered
}

async function begin (t, transports, user, pages, env = {}) {
  const server = await Server.start({ env: { JWT_SECRET, INDEXER_SERVICE_TOKEN, ...env } })
  t.after(() => server.dispose())
  const wire = await Wire.to(server.port)
  t.after(() => wire.close())
  const socket = io(wire.url, {
    auth: { token: tokenFor(user, pages) }, transports, forceNew: true, reconnectionDelay: 20, reconnectionDelayMax: 50
  }, { own: ['n', 'ai-stream-start', 'ai-stream-chunk', 'ai-stream-end'] })
  t.after(() => socket.disconnect())
  await until('it is connected', () => socket.connected)
  return { server, wire, socket }
}

for (const transports of [['websocket'], ['polling'], ['polling', 'websocket']]) {
  describe(`over ${transports.join(', then ')}`, () => {
    test('a lost connection goes on with its name, its rooms, and what it missed', async t => {
      const { server, wire, socket } = await begin(t, transports, 'ada', { '*': 'view' })
      const heard = []
      let connects = 0
      socket.on('n', ({ n }) => heard.push(n))
      socket.on('connect', () => connects++)
      const name = socket.id
      const joined = await socket.emitWithAck('join_dm_conversation', 'd')
      assert.equal(joined.ok, true)
      await tell(server, 'dm:d', 'n', { n: 1 })
      await until('it hears', () => heard.length === 1)
      wire.cut()
      await until('it has lost its connection', () => !socket.connected)
      for (const n of [2, 3, 4]) await tell(server, n === 3 ? 'user:ada' : 'dm:d', 'n', { n })
      await tell(server, 'dm:other', 'n', { n: 99 })
      wire.mend()
      await until('it is connected again', () => socket.connected)
      assert.equal(socket.recovered, true)
      assert.equal(socket.id, name)
      await until('it has heard what it missed', () => heard.length >= 4)
      assert.equal(await tell(server, 'dm:d', 'n', { n: 5 }), 1, 'it is in its rooms, once')
      await until('it goes on', () => heard.includes(5))
      assert.deepEqual(heard, [1, 2, 3, 4, 5])
      assert.equal(connects, 1)
    })

    test('an answer of an AI that ends while a connection is lost has ended for its client', async t => {
      const { server, wire, socket } = await begin(t, transports, 'ada', { 'room:*': 'edit' })
      const room = { method: 'PUT', headers: { 'content-type': 'application/json' }, body: '{"name":"Kitchen"}' }
      assert.equal((await server.api('/api/rooms/room:CODE', room)).status, 200)
      const heard = []
      socket.onAny((event, { chunk, text }) => { if (event.startsWith('ai-')) heard.push([event, chunk ?? text]) })
      assert.equal((await socket.emitWithAck('join-room', 'CODE')).ok, true)
      const says = (event, payload) => tell(server, 'room:CODE', event, { threadId: 't', ...payload })
      await says('ai-stream-start', {})
      await says('ai-stream-chunk', { chunk: 'Be' })
      await until('it hears', () => heard.length === 2)
      wire.cut()
      await until('it has lost its connection', () => !socket.connected)
      await says('ai-stream-chunk', { chunk: 'cause' })
      await says('ai-stream-end', { text: 'Because' })
      wire.mend()
      await until('it is connected again', () => socket.connected)
      assert.equal(socket.recovered, true)
      await until('it hears the end', () => heard.length > 2)
      await says('ai-stream-end', { text: 'of something else' })
      await until('it goes on', () => heard.length > 3)
      assert.deepEqual(heard.slice(2), [['ai-stream-end', 'Because'], ['ai-stream-end', 'of something else']])
    })

    test('who says goodbye begins anew', async t => {
      const { server, socket } = await begin(t, transports, 'ada', { '*': 'view' })
      await socket.emitWithAck('join_dm_conversation', 'd')
      await tell(server, 'dm:d', 'n', { n: 1 })
      const name = socket.id
      socket.disconnect()
      await until('the server has noticed', async () => await tell(server, 'dm:d', 'n', { n: 2 }) === 0)
      socket.connect()
      await until('it is connected again', () => socket.connected)
      assert.equal(socket.recovered, false)
      assert.notEqual(socket.id, name)
    })

    test('a lost connection does not go on where its right has ended', async t => {
      const { server, wire, socket } = await begin(t, transports, 'ada', {})
      const permission = '/api/pages/dm%3Ad/permissions/ada'
      const headers = { 'content-type': 'application/json' }
      await server.api(permission, { method: 'PUT', headers, body: JSON.stringify({ role: 'view' }) })
      const heard = []
      socket.on('n', ({ n }) => heard.push(n))
      socket.on('access_revoked', ({ room }) => heard.push(room))
      assert.equal((await socket.emitWithAck('join_dm_conversation', 'd')).ok, true)
      await tell(server, 'dm:d', 'n', { n: 1 })
      await until('it hears', () => heard.length === 1)
      wire.cut()
      await until('it has lost its connection', () => !socket.connected)
      await tell(server, 'dm:d', 'n', { n: 2 })
      await server.api(permission, { method: 'DELETE' })
      wire.mend()
      await until('it is connected again', () => socket.connected)
      assert.equal(socket.recovered, true)
      await until('it hears that the room is closed', () => heard.includes('dm:d'))
      await tell(server, 'user:ada', 'n', { n: 3 })
      await until('it goes on', () => heard.includes(3))
      assert.deepEqual(heard, [1, 'dm:d', 3])
    })

    test("an indexer's clients work as they were written", async t => {
      const { server, socket } = await begin(t, transports, 'ada', { 'workspace:w': 'admin' })
      const workspaceId = 'w'
      const log = []
      socket.on('workspace:joined', data => log.push(['joined', data]))
      socket.on('error', data => log.push(['error', data.message]))
      socket.on('index:started', () => log.push(['started']))
      socket.on('index:progress', data => log.push(['progress', data.phase, data.docsDone, data.docsTotal, data.pagesDone, data.pagesTotal]))
      socket.on('index:ready', () => log.push(['ready']))
      socket.on('index:failed', data => log.push(['failed', data.error]))
      socket.on('workspace:left', data => log.push(['left', data]))
      socket.emit('workspace:join', { workspaceId: 'another' })
      socket.emit('workspace:join', { workspaceId })
      await until('it is in', () => log.length === 2)
      const say = (event, payload) => tell(server, `workspace:${workspaceId}`, event, payload, INDEXER_SERVICE_TOKEN)
      await say('index:started', {})
      await say('index:progress', { phase: 'render', docsDone: 1, docsTotal: 3, pagesDone: 10, pagesTotal: 50 })
      await say('index:progress', { phase: 'analyze', docsDone: 1, docsTotal: 3, pagesDone: 15, pagesTotal: 50 })
      await say('index:ready', { pageCount: 50 })
      await until('it is told', () => log.length === 6)
      socket.emit('workspace:leave', { workspaceId })
      await until('it has left', () => log.length === 7)
      assert.deepEqual(log, [
        ['error', 'Access denied'],
        ['joined', { workspaceId, role: 'owner' }],
        ['started'],
        ['progress', 'render', 1, 3, 10, 50],
        ['progress', 'analyze', 1, 3, 15, 50],
        ['ready'],
        ['left', { workspaceId }]
      ])
    })
  })
}

test('what was kept is told to who joins again after the server was killed', async t => {
  const { server, wire, socket } = await begin(t, ['websocket'], 'ada', { 'workspace:w': 'view' })
  const heard = []
  socket.on('new_message', ({ n }) => heard.push(n))
  const { epoch, offset } = await socket.emitWithAck('workspace:join', { workspaceId: 'w' })
  wire.cut()
  await until('it has lost its connection', () => !socket.connected)
  for (let n = 1; n <= 10; n++) await tell(server, 'workspace:w', 'new_message', { n })
  await server.kill()
  await server.restart()
  wire.mend()
  await until('it is connected again', () => socket.connected)
  assert.equal(socket.recovered, false, 'another process knows nothing of it')
  const answer = await socket.emitWithAck('workspace:join', { workspaceId: 'w', since: { epoch, offset } })
  assert.deepEqual([answer.missed, answer.complete], [10, true])
  assert.deepEqual(heard, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10], 'before the answer')
})
