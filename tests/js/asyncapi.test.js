// That the check of src/events/asyncapi.json finds what is not in it, with a real server and the public client.

import { after, test } from 'node:test'
import assert from 'node:assert/strict'

import { io, mistaken, takeFound } from './support/asyncapi.js'
import { freshPage, serverForFile } from './support/suite.js'
import { JWT_SECRET, tokenFor } from './support/tokens.js'
import { until } from './support/wait.js'

const server = serverForFile({ env: { JWT_SECRET } })

const sockets = []
after(() => sockets.forEach(socket => socket.disconnect()))

async function connect (own) {
  const auth = { token: tokenFor('ada', { '*': 'edit' }) }
  const socket = io(server().url, { transports: ['websocket'], auth, forceNew: true, reconnection: false }, { own })
  sockets.push(socket)
  await until('a connection', () => socket.connected)
  return socket
}

async function broadcast (event, payload) {
  const body = JSON.stringify({ channelId: 'user:ada', event, payload })
  const response = await server().api('/api/broadcast', { method: 'POST', body })
  assert.equal(response.status, 200)
}

test('what is sent, answered and received as the document says is no finding', async () => {
  const socket = await connect(['of-the-application'])
  const pageId = freshPage()
  assert.equal((await socket.emitWithAck('join_page', { pageId, stateVector: new Uint8Array([0]) })).ok, true)
  assert.equal((await socket.timeout(10_000).emitWithAck('typing_start', { pageId })).ok, true)
  assert.equal((await mistaken(() => socket.emitWithAck('typing_start', {}))).error.code, 'malformed')
  await until('it hears of itself', async () => {
    const heard = new Promise(resolve => socket.once('of-the-application', resolve))
    await broadcast('of-the-application', { n: 1 })
    return heard
  })
  assert.deepEqual(takeFound(), [])
})

test('everything else is one', async () => {
  const socket = await connect([])
  const finds = async (pattern, does) => {
    await does()
    await until(() => `a finding like ${pattern}`, () => takeFound().some(found => pattern.test(found)))
  }
  const pageId = freshPage()
  await finds(/^sent no-such-event .*no such event/, () => socket.emit('no-such-event'))
  await finds(/^sent typing_start .*pageId/, () => socket.emit('typing_start', {}))
  await finds(/^sent page_delta .*binary/, () => socket.emit('page_delta', { pageId, update: 'AAA=' }))
  await finds(/^sent join_page .*pattern/, () => socket.emit('join_page', new Uint8Array([0])))
  await finds(/^sent typing_start .*one argument/, () => socket.emit('typing_start', { pageId }, 2))
  await finds(/^sent typing_start .*not mistaken/, () => mistaken(() => socket.emit('typing_start', { pageId })))
  await finds(/^received of-the-application .*no such event/, () => broadcast('of-the-application', { n: 1 }))
  // As a backend may send it, and not as the server does.
  await finds(/^received sidebar-refresh-requested .*timestamp/, () => broadcast('sidebar-refresh-requested', { userId: 'ada' }))
  await finds(/^received sidebar-refresh-requested .*additional/, () =>
    broadcast('sidebar-refresh-requested', { userId: 'ada', timestamp: new Date().toISOString(), more: 1 }))
})

test('an answer that is not as the document says is one', async () => {
  const socket = await connect([])
  const fulfil = socket.onack.bind(socket)
  // As another server would answer.
  socket.onack = packet => fulfil({ ...packet, data: [{ ...packet.data[0], seq: 'one' }] })
  await socket.emitWithAck('typing_start', { pageId: freshPage() })
  assert.match(takeFound().join(), /^answered typing_start .*seq|additional/)
})
