// PatioAI's vocabulary with the client package that its application uses: rooms, threads, messages, answers of an AI, sidebars.

import { after, before, describe, test } from 'node:test'
import assert from 'node:assert/strict'
import { createHmac } from 'node:crypto'
import { createServer } from 'node:http'
import { io, mistaken } from './support/asyncapi.js'

import { serverForFile } from './support/suite.js'
import { Server } from './support/server.js'
import { JWT_SECRET, sign } from './support/tokens.js'
import { until, within } from './support/wait.js'

const BRIDGE = 'secret-of-the-bridge-of-the-tests-0123456789abcdef'

const signature = (body, at = Math.floor(Date.now() / 1000)) =>
  `t=${at},v1=${createHmac('sha256', BRIDGE).update(`${at}.${body}`).digest('hex')}`

/** The application's own backend, which answers for the AI. */
const wishes = []
const application = createServer((request, response) => {
  let body = ''
  request.on('data', chunk => { body += chunk })
  request.on('end', () => {
    wishes.push({ body, signature: request.headers['x-broadcast-signature'] })
    response.writeHead(202).end()
  })
})
const port = await new Promise(resolve => application.listen(0, '127.0.0.1', () => resolve(application.address().port)))
after(() => application.close())

const server = serverForFile({
  env: {
    JWT_SECRET,
    REALTIME_BROADCAST_SECRET: BRIDGE,
    PAGEROOM_AI_WEBHOOK_URL: `http://127.0.0.1:${port}/ai`,
    PAGEROOM_MAX_MESSAGES_PER_MINUTE: '5'
  }
})

/** Events of the application alone. */
const OWN = ['ai-stopped', 'room-settings-updated', 'system-alert', 'system-notification', 'thread-created']

/** A client of PatioAI that remembers all that it is told. */
class Patio {
  static all = []

  constructor (transports, user, { role = 'edit', url = server().url, own = [], ...options } = {}) {
    const token = sign({ sub: user, name: `${user} of the tests`, pages: { 'room:*': role } })
    this.socket = io(url, { auth: { token }, transports, forceNew: true, reconnectionDelay: 50, ...options }, { own: [...OWN, ...own] })
    this.told = []
    this.socket.onAny((event, body) => this.told.push({ event, body }))
    Patio.all.push(this)
  }

  static async connect (...args) {
    const patio = new Patio(...args)
    await patio.next('connection-confirmed')
    return patio
  }

  /** Sends an event and gives the acknowledgement. */
  ask (event, ...args) { return within(`an answer to ${event}`, this.socket.emitWithAck(event, ...args)) }

  /** Takes the first event of this name out of what has been told, waiting for it. */
  async next (event, withinMs) {
    const index = await until(() => `${event}, told were ${JSON.stringify(this.told)}`,
      () => 1 + this.told.findIndex(told => told.event === event), withinMs)
    return this.told.splice(index - 1, 1)[0].body
  }

  count (event) { return this.told.filter(told => told.event === event).length }
}

after(() => { for (const { socket } of Patio.all) socket.disconnect() })

let rooms = 0

/** A room that no other test uses. */
async function freshRoom (room = { name: 'Kitchen' }) {
  const code = `CODE${process.pid}X${++rooms}`
  const response = await server().api(`/api/rooms/room:${code}`, {
    method: 'PUT', headers: { 'content-type': 'application/json' }, body: JSON.stringify(room)
  })
  assert.equal(response.status, 200)
  return code
}

async function broadcast (channelId, event, payload) {
  const body = JSON.stringify({ channelId, event, payload })
  const response = await server().api('/api/broadcast', {
    method: 'POST', token: null, body, headers: { 'x-broadcast-signature': signature(body) }
  })
  const answer = await response.json()
  assert.equal(response.status, 200, JSON.stringify(answer))
  return answer.delivered
}

for (const transports of [['websocket'], ['polling'], ['polling', 'websocket']]) {
  describe(transports.join(' then '), () => {
    const connect = (user, options) => Patio.connect(transports, user, options)

    async function joined (user, code, options) {
      const patio = await connect(user, options)
      assert.equal((await patio.ask('join-room', code)).ok, true)
      await patio.next('room-joined')
      return patio
    }

    test('the connection is confirmed and its health is answered', async () => {
      const ada = new Patio(transports, 'ada')
      const { socketId, timestamp } = await ada.next('connection-confirmed')
      assert.equal(socketId, ada.socket.id)
      assert.ok(!Number.isNaN(Date.parse(timestamp)))
      const sent = Date.now()
      const pong = await ada.ask('health-ping', { id: 'p1', timestamp: sent })
      assert.deepEqual([pong.id, pong.clientTimestamp], ['p1', sent])
      assert.ok(Math.abs(pong.roundTripTime) < 5_000 && pong.serverTimestamp >= sent - 5_000)
      assert.equal((await mistaken(() => ada.ask('health-ping'))).ok, false)
      assert.equal((await ada.next('validation-error')).errors.length, 1)
    })

    test('rooms are joined once, counted by users, refused in words and left', async () => {
      const code = await freshRoom({ name: 'Kitchen', maxMembers: 2 })
      const ada = await connect('ada')
      const answer = await ada.ask('join-room', code)
      const expected = { shareCode: code, roomName: 'Kitchen', participantCount: 1, maxParticipants: 2 }
      assert.deepEqual(await ada.next('room-joined'), expected)
      assert.deepEqual([answer.ok, answer.success, answer.participantCount], [true, true, 1])
      // The application's queue sends it again when it has heard no answer.
      assert.equal((await ada.ask('join-room', code)).participantCount, 1)
      const bob = await joined('bob', code)
      const { userId, shareCode, roomName, timestamp } = await ada.next('user-joined-room')
      assert.deepEqual([userId, shareCode, roomName], ['bob', code, 'Kitchen'])
      assert.ok(timestamp)
      const eve = await connect('eve')
      assert.equal((await eve.ask('join-room', code)).error.code, 'room_full')
      assert.deepEqual(await eve.next('room-error'), { error: 'Room is full' })
      eve.socket.emit('join-room', 'no-such-code')
      assert.deepEqual(await eve.next('room-error'), { error: 'Room not found' })
      for (const bad of [undefined, 7, { code }, '', 'x'.repeat(300), null]) {
        mistaken(() => eve.socket.emit('join-room', bad))
        assert.equal((await eve.next('validation-error')).errors[0].field, 'shareCode')
      }
      const { participants } = await bob.ask('get-room-participants', code)
      assert.deepEqual(participants.map(one => [one.user_id, one.display_name]),
        [['ada', 'ada of the tests'], ['bob', 'bob of the tests']])
      assert.deepEqual((await bob.next('room-participants')).participants, participants)
      assert.equal((await eve.ask('get-room-participants', code)).ok, false)
      assert.equal((await bob.ask('leave-room', code)).shareCode, code)
      assert.deepEqual(await bob.next('room-left'), { shareCode: code })
      assert.equal((await ada.next('user-left-room')).userId, 'bob')
      assert.equal((await eve.ask('join-room', code)).ok, true, 'there is a place now')
    })

    test('typing and threads', async () => {
      const code = await freshRoom()
      const ada = await joined('ada', code)
      const bob = await joined('bob', code)
      await bob.ask('switch-thread', { roomId: code, threadId: 't1', displayName: 'not Bob' })
      const { displayName, fromThread, toThread, roomId } = await ada.next('user-thread-switch')
      assert.deepEqual([displayName, fromThread, toThread, roomId], ['bob of the tests', null, 't1', code])
      const { activities } = await ada.next('cross-thread-activity')
      assert.deepEqual(activities,
        [{ threadId: 't1', threadName: 't1', activeUsers: ['bob of the tests'], typingUsers: [] }])
      bob.socket.emit('typing-start', { roomId: code, displayName: 'not Bob', threadId: 't1' })
      const typing = await ada.next('user-typing')
      assert.deepEqual([typing.users, typing.roomId, typing.threadId], [['bob of the tests'], code, 't1'])
      await ada.ask('typing-start', { roomId: code, threadId: 't1' })
      assert.equal((await ada.next('user-typing')).users.length, 2)
      await ada.ask('typing-stop', { roomId: code, threadId: 't1' })
      assert.deepEqual((await ada.next('user-typing')).users, ['bob of the tests'])
      // Nobody says that it stops.
      assert.deepEqual((await ada.next('user-typing', 10_000)).users, [])
      const eve = await connect('eve')
      for (const event of ['switch-thread', 'typing-start', 'typing-stop']) {
        assert.equal((await eve.ask(event, { roomId: code, threadId: 't1' })).error.code, 'forbidden', event)
        assert.deepEqual(await eve.next('room-error'), { error: 'Room not found' })
        mistaken(() => eve.socket.emit(event))
        assert.ok(await eve.next('validation-error'))
      }
    })

    test('messages', async () => {
      const code = await freshRoom()
      // Users of this test alone: messages are counted by users.
      const name = `bob${code}`
      const ada = await joined('ada', code)
      const bob = await joined(name, code)
      const { success, message } = await bob.ask('send-message', { shareCode: code, threadId: 't', content: 'Hello' })
      assert.equal(success, true)
      const told = await ada.next('room-message-created')
      assert.deepEqual(told.new, message)
      assert.deepEqual([told.eventType, told.table, told.schema], ['INSERT', 'room_messages', 'public'])
      assert.deepEqual([message.room_id, message.thread_id, message.sender_name, message.content, message.is_ai_response],
        [code, 't', `${name} of the tests`, 'Hello', false])
      const tooLong = { shareCode: code, content: 'x'.repeat(16 * 1024 + 1) }
      const refused = await mistaken(() => bob.ask('send-message', tooLong))
      assert.deepEqual([refused.success, refused.errors[0].field], [false, 'content'])
      assert.equal((await bob.next('validation-error')).errors[0].field, 'content')
      for (let n = 0; n < 4; n++) await bob.ask('send-message', { shareCode: code, content: `${n}` })
      bob.socket.emit('send-message', { shareCode: code, content: 'too many' })
      assert.deepEqual(await bob.next('rate-limited'), { message: 'Too many messages' })
      const missed = await ada.ask('request-missed-messages', { timestamp: Date.now(), lastActiveTime: 0 })
      assert.equal(missed.success, true)
      assert.equal((await ada.next('missed-messages-response')).success, true)
      const eve = await connect('eve', { role: 'view' })
      assert.equal((await eve.ask('send-message', { shareCode: code, content: 'x' })).error.code, 'forbidden')
      await eve.ask('join-room', code)
      assert.equal((await eve.ask('send-message', { shareCode: code, content: 'x' })).error.code, 'read_only')
      assert.equal(ada.count('room-message-created'), 4, 'and nothing that was refused')
    })

    test('answers of the AI', async () => {
      const code = await freshRoom()
      const user = `ada${code}`
      // What the application says as it goes has other fields than what a newcomer hears of it.
      const ada = await joined(user, code, { own: ['ai-stream-chunk'] })
      const wish = { shareCode: code, threadId: 't', prompt: 'Why?', roomName: 'Kitchen', participants: [] }
      assert.equal((await ada.ask('invoke-ai', wish)).success, true)
      const posted = await until('the wish', () => wishes.find(({ body }) => JSON.parse(body).userId === user))
      assert.equal(posted.signature, signature(posted.body, posted.signature.match(/t=(\d+)/)[1]))
      assert.deepEqual(JSON.parse(posted.body).payload, wish)
      await broadcast(`room:${code}`, 'ai-stream-start', { threadId: 't', modelId: 'm' })
      await broadcast(`room:${code}`, 'ai-stream-chunk', { threadId: 't', chunk: 'Be' })
      await broadcast(`room:${code}`, 'ai-stream-chunk', { threadId: 't', chunk: 'cause' })
      const bob = await joined('bob', code)
      assert.equal((await bob.next('ai-stream-start')).modelId, 'm')
      assert.equal((await bob.next('ai-stream-chunk')).chunk, 'Because')
      assert.equal((await ada.ask('stop-ai', { shareCode: code, threadId: 't' })).success, true)
      await broadcast(`room:${code}`, 'ai-stopped', { threadId: 't' })
      for (const patio of [ada, bob]) assert.ok(await patio.next('ai-stopped'))
      assert.deepEqual(ada.told.filter(({ event }) => event === 'ai-stream-chunk').map(({ body }) => body.chunk), ['Be', 'cause'])
      for (const event of ['toggle-ai', 'update-ai-config']) {
        assert.equal((await ada.ask(event, true)).success, false)
        assert.ok((await ada.next('ai-error')).error)
      }
      const eve = await connect('eve')
      for (const event of ['invoke-ai', 'stop-ai']) {
        assert.equal((await eve.ask(event, wish)).success, false)
        assert.ok((await eve.next('ai-error')).error)
      }
    })

    test('sidebars and the other tabs of a user', async () => {
      const user = `ada${process.pid}${transports.length}${transports[0]}`
      const ada = await connect(user)
      const tab = await connect(user)
      const bob = await connect('bob')
      assert.equal((await ada.ask('join-user-channel')).userId, user)
      assert.equal((await ada.next('user-channel-joined')).userId, user)
      for (const [event, body, told] of [
        ['notify-sidebar-change', { changeType: 'chat_created', entityId: 'e', metadata: {} }, 'sidebar-change-notification'],
        ['chat-session-created', { sessionId: 's', title: 'Tea' }, 'chat-session-created'],
        ['chat-message-sent', { sessionId: 's', content: 'Hi', isUserMessage: true }, 'chat-message-created'],
        ['document-uploaded', { documentId: 'd', title: 'Tea', totalPages: 1, filterTags: '' }, 'document-uploaded']
      ]) {
        assert.equal((await ada.ask(event, body)).ok, true, event)
        assert.ok((await tab.next(told)).timestamp, event)
        mistaken(() => ada.socket.emit(event, 7))
        assert.ok((await ada.next('validation-error')).errors.length, event)
        assert.equal(bob.count(told), 0)
      }
      const from = performance.now()
      for (let n = 0; n < 20; n++) ada.socket.emit('request-sidebar-refresh')
      for (let n = 0; n < 2; n++) assert.equal((await tab.next('sidebar-refresh-requested')).userId, user)
      assert.ok(performance.now() - from > 450, 'twice a second at most')
      assert.ok((await ada.ask('get-sidebar-data')).rooms)
      assert.ok((await ada.next('sidebar-data')).timestamp)
      for (const event of ['user-background', 'user-foreground']) {
        assert.equal((await ada.ask(event, { timestamp: Date.now() })).ok, true)
      }
      assert.equal((await ada.ask('leave-user-channel')).userId, user)
      assert.equal((await ada.next('user-channel-left')).userId, user)
    })

    test('who is removed is sent out and stays out; a deleted room is left', async () => {
      const code = await freshRoom()
      const ada = await joined('ada', code)
      const bob = await joined('bob', code)
      await broadcast(`room:${code}`, 'user-removed-from-room', {
        removedUser: { displayName: 'Ada', sessionId: 's', userId: 'auth_ada' }, shareCode: code, participantCount: 1
      })
      for (const patio of [ada, bob]) assert.equal((await patio.next('user-removed-from-room')).shareCode, code)
      const removed = { error: 'REMOVED_FROM_ROOM', roomName: 'Kitchen' }
      assert.deepEqual(await ada.next('room-error'), removed)
      assert.equal((await ada.next('access_revoked')).room, `room:${code}`)
      assert.equal((await ada.ask('join-room', code)).ok, false)
      assert.deepEqual(await ada.next('room-error'), removed)
      assert.equal(await broadcast(`room:${code}`, 'room-settings-updated', { shareCode: code, name: 'Attic' }), 1)
      await broadcast(`room:${code}`, 'room-deleted', { shareCode: code, roomName: 'Kitchen' })
      assert.equal((await bob.next('room-deleted')).shareCode, code)
      assert.deepEqual(await bob.next('room-error'), { error: 'Room not found', roomName: 'Kitchen' })
      assert.equal((await bob.ask('join-room', code)).ok, false)
    })

    test('a room that is over is left, and is entered no more', async () => {
      const lasts = 2_500
      const code = await freshRoom({ name: 'Short', expiresAt: new Date(Date.now() + lasts).toISOString() })
      const ada = await joined('ada', code)
      assert.deepEqual(await ada.next('room-error'), { error: 'Room has expired', roomName: 'Short' })
      assert.equal((await ada.next('access_revoked')).room, `room:${code}`)
      assert.equal(await broadcast(`room:${code}`, 'room-settings-updated', { shareCode: code, name: 'Attic' }), 0)
      const bob = await connect('bob')
      for (const patio of [ada, bob]) {
        const refused = await patio.ask('join-room', code)
        assert.deepEqual([refused.ok, refused.success], [false, false])
        assert.deepEqual(await patio.next('room-error'), { error: 'Room has expired' })
      }
    })

    test('a broken connection is waited for, and a goodbye is not', async () => {
      const code = await freshRoom()
      const ada = await joined('ada', code)
      const bob = await joined('bob', code)
      bob.socket.disconnect()
      const gone = await ada.next('user-disconnected')
      assert.deepEqual([gone.userId, gone.shareCode], ['bob', code])
      if (transports.at(-1) !== 'websocket') return
      const eve = await joined('eve', code)
      await until('the WebSocket', () => eve.socket.io.engine.transport.name === 'websocket')
      eve.socket.io.reconnection(false)
      const from = performance.now()
      eve.socket.io.engine.transport.ws.terminate?.()
      assert.equal((await ada.next('user-disconnected')).userId, 'eve')
      assert.ok(performance.now() - from > 2_800, 'it could have come back')
      assert.equal(ada.count('user-disconnected'), 0, 'once')
    })
  })
}

describe('as the application writes it', () => {
  const code = () => freshRoom()

  test('its backend tells a message in a room, in the envelope of its tables', async () => {
    const shareCode = await code()
    // Its backend sends envelopes of its own.
    const { socket } = await Patio.connect(['websocket', 'polling'], 'ada', { own: ['room-message-created'] })
    const refreshes = []
    const refreshSidebar = data => refreshes.push(data)

    // As in the application's component.
    const handleRoomMessageCreated = data => {
      // Handle real-time message updates
      refreshSidebar(data)
    }
    socket.on('room-message-created', handleRoomMessageCreated)
    socket.emit('join-room', shareCode)
    await until('the room is joined', () => Patio.all.at(-1).count('room-joined'))

    // As in its emitter, over the bridge.
    const emitRoomMessageCreated = (roomIdOrShareCode, messageData) =>
      broadcast(`room:${roomIdOrShareCode}`, 'room-message-created', {
        new: messageData,
        eventType: 'INSERT',
        table: 'room_messages',
        schema: 'public'
      })
    assert.equal(await emitRoomMessageCreated(shareCode, { id: 'm1', content: 'Hello' }), 1)
    await until('the sidebar is refreshed', () => refreshes.length === 1)
    assert.deepEqual(refreshes[0].new, { id: 'm1', content: 'Hello' })
    assert.ok(refreshes[0].timestamp)
    socket.off('room-message-created', handleRoomMessageCreated)
    await emitRoomMessageCreated(shareCode, { id: 'm2' })
    assert.equal(await broadcast('user:ada', 'sidebar-refresh-requested', { userId: 'ada', timestamp: new Date().toISOString() }) >= 1, true)
    await Patio.all.at(-1).next('sidebar-refresh-requested')
    assert.equal(refreshes.length, 1)
  })

  test('a thread reaches its user under either name, and alerts reach everybody', async () => {
    const ada = await Patio.connect(['websocket'], `ada${process.pid}`)
    const user = `ada${process.pid}`
    for (const name of [user, `auth_${user}`]) {
      assert.equal(await broadcast(`user:${name}`, 'thread-created', { threadId: 't', source: 'api' }), 1)
      assert.equal((await ada.next('thread-created')).threadId, 't')
    }
    for (const event of ['system-alert', 'system-notification']) {
      await broadcast('global', event, { type: 'info', message: 'soon' })
      assert.equal((await ada.next(event)).message, 'soon')
    }
  })

  test('sockets without a good token are refused', async () => {
    for (const auth of [{}, { token: 'ada' }, { token: 'auth_ada' }]) {
      const socket = io(server().url, { auth, transports: ['websocket'], forceNew: true, reconnection: false })
      const error = await within('a refusal', new Promise(resolve => socket.once('connect_error', resolve)))
      assert.ok(error.message)
      socket.disconnect()
    }
  })
})

describe('limits of which nothing is said', () => {
  let usual
  before(async () => { usual = await Server.start({ env: { JWT_SECRET } }) })
  after(async () => { await usual.dispose() })

  for (const transports of [['websocket'], ['polling']]) {
    test(`messages of a user, over ${transports}`, async () => {
      const code = `CODE${process.pid}${transports}`
      const room = { method: 'PUT', headers: { 'content-type': 'application/json' }, body: '{"name":"Kitchen"}' }
      assert.equal((await usual.api(`/api/rooms/room:${code}`, room)).status, 200)
      const user = `ada-${transports}`
      const [ada, tab, bob] = await Promise.all([user, user, `bob-${transports}`].map(name => Patio.connect(transports, name, { url: usual.url })))
      for (const patio of [ada, tab, bob]) assert.equal((await patio.ask('join-room', code)).ok, true)
      const says = (patio, content) => patio.ask('send-message', { shareCode: code, content })
      const began = performance.now()
      // Bytes count, and not characters.
      for (const longest of ['x'.repeat(16 * 1024), 'é'.repeat(8 * 1024)]) assert.equal((await says(ada, longest)).success, true)
      assert.equal((await mistaken(() => says(ada, 'x'.repeat(16 * 1024 + 1)))).errors[0].field, 'content')
      assert.equal((await says(ada, `${'é'.repeat(8 * 1024)}x`)).errors[0].field, 'content')
      // A user's tabs count together.
      const answers = await Promise.all(Array.from({ length: 130 }, (_, n) => says(n % 2 ? ada : tab, `${n}`)))
      const taken = 2 + answers.filter(({ success }) => success).length
      const minutes = (performance.now() - began) / 60_000
      assert.ok(taken >= 100 && taken <= 101 + 100 * minutes, `${taken} were taken`)
      for (const { error } of answers.filter(({ success }) => !success)) assert.equal(error.code, 'rate_limited')
      assert.deepEqual(await tab.next('rate-limited'), { message: 'Too many messages' })
      assert.equal((await says(bob, 'somebody else')).success, true)
      await until('all is heard', () => bob.count('room-message-created') === taken + 1)
    })
  }
})

describe('a server at capacity', () => {
  let full
  before(async () => { full = await Server.start({ env: { JWT_SECRET, PAGEROOM_MAX_CONNECTIONS: '1' } }) })
  after(async () => { await full.dispose() })

  for (const transports of [['websocket'], ['polling']]) {
    test(`says so over ${transports} and hangs up`, async () => {
      const first = await Patio.connect(['websocket'], 'ada', { url: full.url })
      const second = new Patio(transports, 'bob', { url: full.url, reconnection: false })
      const disconnected = new Promise(resolve => second.socket.once('disconnect', resolve))
      assert.deepEqual(await second.next('connection-rejected'), { reason: 'Server at capacity' })
      await within('the end of the connection', disconnected)
      first.socket.disconnect()
      await until('there is a place again', async () => (await full.api('/metrics').then(answer => answer.text())).match(/connections[^\n]* 0\n/))
    })
  }
})
