// The Indexer's vocabulary with the client package that its application uses: what members of a workspace hear of a job in either form,
// and of each other.

import { after, describe, test } from 'node:test'
import assert from 'node:assert/strict'

import { io, mistaken } from './support/asyncapi.js'
import { freshPage, serverForFile } from './support/suite.js'
import { JWT_SECRET, sign } from './support/tokens.js'
import { until, within } from './support/wait.js'

const WORKER = 'token-of-the-worker-of-the-tests-0123456789abcdef'
const server = serverForFile({ env: { JWT_SECRET, INDEXER_SERVICE_TOKEN: WORKER } })

const sockets = []
after(() => sockets.forEach(socket => socket.disconnect()))

/** A client that remembers all that it is told. */
async function connect (transports, user, pages) {
  const socket = io(server().url, { transports, auth: { token: sign({ sub: user, pages }) }, forceNew: true, reconnection: false })
  sockets.push(socket)
  const told = []
  socket.onAny((event, body) => told.push({ event, body }))
  await within('a connection', new Promise((resolve, reject) => socket.once('connect', resolve).once('connect_error', reject)))
  return {
    socket,
    told,
    ask: (event, body) => within(`an answer to ${event}`, socket.emitWithAck(event, body)),
    async next (event) {
      const index = await until(() => `${event}, told were ${JSON.stringify(told)}`, () => 1 + told.findIndex(one => one.event === event))
      return told.splice(index - 1, 1)[0].body
    }
  }
}

async function say (channelId, event, payload, token = WORKER) {
  const response = await server().api('/api/broadcast', { method: 'POST', token, body: JSON.stringify({ channelId, event, payload }) })
  await response.arrayBuffer()
  return response.status
}

for (const transports of [['websocket'], ['polling'], ['polling', 'websocket']]) {
  describe(transports.join(' and then '), () => {
    test('the end of a job is heard in both vocabularies, and once more by who comes later', async () => {
      for (const [said, names, payload] of [
        ['index:ready', ['index:ready', 'index:complete'], { pageCount: 5 }],
        ['index:complete', ['index:ready', 'index:complete'], { pageCount: 5, documentCount: 2 }],
        ['index:failed', ['index:failed', 'index:error'], { error: 'full', phase: 'embed' }],
        ['index:error', ['index:failed', 'index:error'], { error: 'full' }],
        ['index:cancelled', ['index:cancelled'], {}]
      ]) {
        const workspaceId = freshPage('w')
        const ada = await connect(transports, 'ada', { [`workspace:${workspaceId}`]: 'view' })
        assert.equal((await ada.ask('workspace:join', { workspaceId })).role, 'viewer')
        assert.deepEqual(await ada.next('workspace:joined'), { workspaceId, role: 'viewer' })
        assert.equal(await say(`workspace:${workspaceId}`, 'index:started', {}), 200)
        assert.equal((await ada.next('index:started')).workspaceId, workspaceId)
        assert.equal(await say(`workspace:${workspaceId}`, said, payload), 200)
        const late = await connect(transports, 'ben', { [`workspace:${workspaceId}`]: 'view' })
        late.socket.emit('workspace:join', { workspaceId })
        for (const name of names) {
          const heard = await ada.next(name)
          assert.equal(heard.workspaceId, workspaceId, name)
          for (const [key, value] of Object.entries(payload)) assert.equal(heard[key], value, `${name}: ${key}`)
          assert.deepEqual([(await late.next(name)).replayed, heard.replayed], [true, undefined], name)
        }
        assert.ok(!ada.told.some(({ event }) => event.startsWith('index:')), 'once')
      }
    })

    test('a job that waits is heard, and once more by who comes before it begins', async () => {
      const workspaceId = freshPage('w')
      const pages = { [`workspace:${workspaceId}`]: 'view' }
      const ada = await connect(transports, 'ada', pages)
      assert.equal((await ada.ask('workspace:join', { workspaceId })).ok, true)
      assert.equal(await say(`workspace:${workspaceId}`, 'index:queued', { position: 3 }), 200)
      const queued = await ada.next('index:queued')
      assert.deepEqual([queued.workspaceId, queued.position, queued.replayed], [workspaceId, 3, undefined])
      const ben = await connect(transports, 'ben', pages)
      ben.socket.emit('workspace:join', { workspaceId })
      assert.equal((await ben.next('index:queued')).replayed, true)
      assert.equal(await say(`workspace:${workspaceId}`, 'index:started', {}), 200)
      await ben.next('index:started')
      const cleo = await connect(transports, 'cleo', pages)
      assert.equal((await cleo.ask('workspace:join', { workspaceId })).ok, true)
      assert.ok(!cleo.told.some(({ event }) => event === 'index:queued'))
    })

    test('members hear who is there, and nobody else hears anything', async () => {
      const workspaceId = freshPage('w')
      const pages = { [`workspace:${workspaceId}`]: 'admin' }
      const ada = await connect(transports, 'ada', pages)
      const eve = await connect(transports, 'eve', { 'workspace:another': 'admin' })
      ada.socket.emit('workspace:join', { workspaceId })
      assert.deepEqual(await ada.next('workspace:joined'), { workspaceId, role: 'owner' })
      const statuses = ({ members }) => members.map(({ userId, status }) => `${userId} ${status}`).join()
      const hears = expected => until(`hearing ${expected}`, async () => statuses(await ada.next('presence:workspace')) === expected)
      await hears('ada online')
      const ben = await connect(transports, 'ben', pages)
      ben.socket.emit('workspace:join', { workspaceId })
      await hears('ben online')
      ben.socket.emit('workspace:leave', { workspaceId })
      assert.deepEqual(await ben.next('workspace:left'), { workspaceId })
      await hears('ben offline')
      assert.deepEqual((await eve.ask('workspace:join', { workspaceId })).error.code, 'forbidden')
      eve.socket.emit('workspace:join', { workspaceId })
      assert.equal((await eve.next('error')).message, 'Access denied')
      mistaken(() => eve.socket.emit('workspace:join'))
      assert.equal((await eve.next('error')).code, 'malformed')
      assert.equal(await say(`workspace:${workspaceId}`, 'index:started', {}), 200)
      await ada.next('index:started')
      assert.ok(!eve.told.some(({ event }) => /^(index|presence|workspace):/.test(event)))
    })
  })
}

test('the worker speaks to workspaces alone, and nobody speaks for it', async () => {
  assert.equal(await say('workspace:w', 'index:started', {}, 'a token that is not the worker\'s, of any length'), 401)
  for (const room of ['user:ada', 'drive:d', 'p', 'global']) assert.equal(await say(room, 'new_message', {}), 403, room)
})
