// Rights that end, with the public Socket.IO client: what the backend does counts in every kind of room before it has its answer, and
// what ends by itself within a second.

import { after, describe, test } from 'node:test'
import assert from 'node:assert/strict'
import { setTimeout as pause } from 'node:timers/promises'

import { io } from './support/asyncapi.js'
import { freshPage, serverForFile } from './support/suite.js'
import { JWT_SECRET, sign } from './support/tokens.js'
import { until, within } from './support/wait.js'

const server = serverForFile({ env: { JWT_SECRET } })

/** A change counts within this time. */
const AT_ONCE_MS = 1_000

/** Clocks may differ by so many seconds: a token is good for as long behind its end. */
const LEEWAY_SECONDS = 15

/** Every reason of a kick. */
const REASONS = ['member_removed', 'role_changed', 'permission_revoked', 'session_revoked', 'page_private', 'conversation_unshared']

/** Every kind of room: by which event it is entered, as what the right to it is asked, and the rooms that one is in then. */
const KINDS = [
  ['a page', 'join_page', id => id, id => id, id => [id]],
  ['a page, with an object', 'join_page', id => ({ pageId: id }), id => id, id => [id]],
  ['who is at a page', 'presence:join_page', id => ({ pageId: id }), id => id, id => [id]],
  ['what is told of a page', 'join_channel', id => id, id => id, id => [id]],
  ['a drive', 'join_drive', id => id, id => `drive:${id}`, id => [`drive:${id}`, `drive:${id}:calendar`]],
  ['messages', 'join_dm_conversation', id => id, id => `dm:${id}`, id => [`dm:${id}`]],
  ['a conversation', 'join_conversation', id => id, id => `conv:${id}`, id => [`conv:${id}`]],
  ['a session', 'join_session', id => id, id => `session:${id}`, id => [`session:${id}`]],
  ['what is done in a drive', 'join_activity_drive', id => id, id => `drive:${id}`, id => [`activity:drive:${id}`]],
  ['what is done at a page', 'join_activity_page', id => id, id => id, id => [`activity:page:${id}`]],
  ['a workspace', 'workspace:join', id => ({ workspaceId: id }), id => `workspace:${id}`, id => [`workspace:${id}`]],
  ['a component', 'component:subscribe', id => ({ componentId: id }), id => `component:${id}`, id => [`component:${id}`]],
  ['an entity', 'component:subscribe', id => ({ entityType: 'board', entityId: id }), id => `entity:board:${id}`, id => [`entity:board:${id}`]],
  ['a shared room', 'join-room', id => id, id => `room:${id}`, id => [`room:${id}`]]
]

const sockets = []
after(() => sockets.forEach(socket => socket.disconnect()))

async function connect (transports, user, pages = {}, expiresIn) {
  const auth = { token: sign({ sub: user, name: user, pages }, { expiresIn }) }
  const socket = io(server().url, { transports, auth, forceNew: true, reconnection: false }, { own: ['n'] })
  sockets.push(socket)
  const told = []
  socket.onAny((event, body) => told.push({ event, body, at: Date.now() }))
  await within('the connection', new Promise((resolve, reject) => socket.on('connect', resolve).on('connect_error', reject)))
  const ask = (event, body) => within(`an answer to ${event}`, socket.emitWithAck(event, body))
  /** Everything that was told before something that is asked now is answered, under one name; it is taken out. */
  const soFar = async event => {
    assert.equal((await ask('join', 'x')).ok, true)
    const found = told.filter(one => one.event === event)
    for (const one of found) told.splice(told.indexOf(one), 1)
    return found.map(({ body }) => body)
  }
  const revoked = () => told.filter(({ event }) => event === 'access_revoked')
  return { socket, told, ask, soFar, revoked, user }
}

async function api (path, method, body) {
  const response = await server().api(path, { method, headers: { 'content-type': 'application/json' }, body: body && JSON.stringify(body) })
  const text = await response.text()
  assert.ok(response.ok, text)
  return text === '' ? undefined : JSON.parse(text)
}

/** Runs `work`; gives how long at most anything took meanwhile that waits for nothing, which is what a busy machine adds to every time. */
async function slowness (client, work) {
  let [slowest, goesOn] = [0, true]
  const beating = (async () => {
    while (goesOn) {
      const from = performance.now()
      await client.ask('join', 'x')
      slowest = Math.max(slowest, performance.now() - from)
      await pause(10)
    }
  })()
  await work()
  goesOn = false
  await beating
  return slowest
}

const grant = (page, user, body) => api(`/api/pages/${encodeURIComponent(page)}/permissions/${user}`, body ? 'PUT' : 'DELETE', body)
const tell = async channelId => (await api('/api/broadcast', 'POST', { channelId, event: 'n', payload: {} })).delivered

/** A room of a kind that nobody else is in, as what the right to it is asked, and the names that it has. */
async function room ([kind, event, bodyOf, askedAs, roomsOf]) {
  const id = freshPage('r')
  if (event === 'join-room') await api(`/api/rooms/room:${id}`, 'PUT', { name: 'Kitchen' })
  return { kind, event, body: bodyOf(id), asked: askedAs(id), rooms: roomsOf(id) }
}

let users = 0
const freshUser = () => `user${process.pid}n${++users}`

for (const transports of [['websocket'], ['polling'], ['polling', 'websocket']]) {
  describe(transports.join(' and then '), () => {
    test('a permission that is taken away has ended everywhere when that is answered', async () => {
      const user = freshUser()
      const ada = await connect(transports, user)
      for (const kind of KINDS) {
        const { event, body, asked, rooms } = await room(kind)
        assert.equal((await ada.ask(event, body)).ok, false, kind[0])
        await grant(asked, user, { role: 'edit' })
        const answer = await ada.ask(event, body)
        assert.equal(answer.ok, true, `${kind[0]}: ${JSON.stringify(answer)}`)
        for (const name of rooms) assert.equal(await tell(name), 1, name)
        await ada.soFar('n')
        await grant(asked, user, null)
        const revoked = await ada.soFar('access_revoked')
        assert.deepEqual(revoked.map(({ room, reason }) => [room, reason]).sort(), rooms.map(name => [name, 'forbidden']).sort(), kind[0])
        for (const name of rooms) assert.equal(await tell(name), 0, name)
        assert.deepEqual(await ada.soFar('n'), [], kind[0])
        assert.equal((await ada.ask(event, body)).error.code, 'forbidden', kind[0])
      }
    })

    test('who is sent out for any reason is out of every room at once, and is told in the words of the kick', async () => {
      const ada = await connect(transports, freshUser(), { '*': 'edit' })
      const { user } = ada
      const kick = (rooms, reason, metadata) => api('/api/kick', 'POST', { userId: user, roomPattern: rooms, reason, metadata })
      for (const [index, kind] of KINDS.entries()) {
        const { event, body, rooms } = await room(kind)
        const reason = REASONS[index % REASONS.length]
        const answer = await ada.ask(event, body)
        assert.equal(answer.ok, true, `${kind[0]}: ${JSON.stringify(answer)}`)
        const metadata = { why: kind[0], nested: [1, null, { deep: true }] }
        const kicked = await kick(rooms.length === 1 ? rooms[0] : rooms, reason, metadata)
        assert.deepEqual([kicked.success, kicked.rooms], [true, [...rooms].sort()], kind[0])
        const revoked = await ada.soFar('access_revoked')
        assert.deepEqual(revoked.map(({ room, reason, metadata }) => ({ room, reason, metadata })).sort((a, b) => a.room < b.room ? -1 : 1),
          rooms.map(room => ({ room, reason, metadata })), kind[0])
        for (const name of rooms) assert.equal(await tell(name), 0, name)
      }
      // Many rooms in one request, for each of the reasons.
      for (const reason of REASONS) {
        const [drive, talk] = [freshPage('d'), freshPage('c')]
        assert.equal((await ada.ask('join_drive', drive)).ok, true)
        assert.equal((await ada.ask('join_conversation', talk)).ok, true)
        await kick([`conv:${talk}`, `drive:${drive}`, `drive:${drive}:calendar`], reason, { n: 1 })
        const revoked = await ada.soFar('access_revoked')
        assert.deepEqual(revoked.map(({ room }) => room).sort(), [`conv:${talk}`, `drive:${drive}`, `drive:${drive}:calendar`])
        for (const told of revoked) assert.deepEqual([told.reason, told.metadata], [reason, { n: 1 }])
      }
      for (const reason of ['forbidden', 'because', 'MEMBER_REMOVED', 7, null]) {
        const answer = await server().api('/api/kick', { method: 'POST', body: JSON.stringify({ userId: user, roomPattern: 'x', reason }) })
        assert.deepEqual([answer.status, await answer.json()], [400, { error: 'Missing or invalid reason' }], String(reason))
      }
    })

    test('who may only read from now on saves nothing any more when that is answered', async () => {
      const user = freshUser()
      const ada = await connect(transports, user)
      const [page, component] = [freshPage(), freshPage()]
      for (const asked of [page, `component:${component}`]) await grant(asked, user, { role: 'edit' })
      assert.equal((await ada.ask('join_page', page)).role, 'edit')
      assert.equal((await ada.ask('component:subscribe', { componentId: component })).ok, true)
      const save = content => ada.ask('page_updated', { pageId: page, content })
      const update = () => ada.ask('component:update', { componentId: component, updates: { title: 'x' } })
      assert.equal((await save('one')).ok, true)
      assert.equal((await update()).ok, true)
      for (const asked of [page, `component:${component}`]) await grant(asked, user, { role: 'view' })
      for (const refused of [await save('two'), await update()]) assert.equal(refused.error.code, 'read_only', JSON.stringify(refused))
      assert.deepEqual(await ada.soFar('access_revoked'), [], 'it may still read')
      for (const asked of [page, `component:${component}`]) await grant(asked, user, { role: 'edit' })
      for (const answer of [await save('three'), await update()]) assert.equal(answer.ok, true, JSON.stringify(answer))
    })

    test('a permission that ends by itself has ended a second later', async () => {
      const user = freshUser()
      const ada = await connect(transports, user)
      const rooms = await Promise.all(KINDS.map(room))
      for (const { kind, event, body, asked } of rooms) {
        await grant(asked, user, { role: 'view' })
        assert.equal((await ada.ask(event, body)).ok, true, kind)
      }
      const ends = Date.now() + 3_000
      await Promise.all(rooms.map(({ asked }) => grant(asked, user, { role: 'view', expiresAt: new Date(ends).toISOString() })))
      const expected = rooms.flatMap(({ rooms }) => rooms)
      const busy = await slowness(ada, () => until('all have ended', () => ada.revoked().length >= expected.length))
      assert.deepEqual(ada.revoked().map(({ body }) => body.room).sort(), expected.sort())
      for (const { at, body } of ada.revoked()) {
        assert.ok(at >= ends && at < ends + AT_ONCE_MS + busy, `${body.room} ${at - ends} ms behind its end, on a machine that takes ${busy} ms`)
      }
    })

    test('a connection whose token ends is over a second later, in every room', async () => {
      const ada = await connect(transports, freshUser(), { '*': 'edit' }, 6 - LEEWAY_SECONDS)
      const { exp } = JSON.parse(Buffer.from(ada.socket.auth.token.split('.')[1], 'base64url'))
      const rooms = await Promise.all(KINDS.map(room))
      for (const { kind, event, body } of rooms) assert.equal((await ada.ask(event, body)).ok, true, kind)
      const over = new Promise(resolve => ada.socket.once('disconnect', reason => resolve([reason, Date.now()])))
      const ben = await connect(transports, freshUser())
      const busy = await slowness(ben, () => within('the end of the connection', over))
      const [reason, at] = await over
      const late = at - (exp + LEEWAY_SECONDS) * 1_000
      assert.ok(late >= 0 && late < AT_ONCE_MS + busy, `${late} ms behind the end of the token, on a machine that takes ${busy} ms`)
      assert.deepEqual([reason, ada.told.at(-1).event, ada.told.at(-1).body.code], ['io server disconnect', 'error', 'token_expired'])
      assert.deepEqual(ada.told.filter(({ event }) => ['access_revoked', 'room-error'].includes(event)), [], 'with a fresh token it may enter all of them')
      for (const { rooms: names } of rooms) for (const name of names) assert.equal(await tell(name), 0, name)
    })

    test('who is signed out everywhere is heard no more when that is answered', async () => {
      const user = freshUser()
      const tabs = [await connect(transports, user, { '*': 'edit' }), await connect(transports, user, { '*': 'edit' })]
      const ben = await connect(transports, freshUser(), { '*': 'edit' })
      const page = freshPage()
      for (const client of [...tabs, ben]) assert.equal((await client.ask('join_page', page)).ok, true)
      const ended = tabs.map(({ socket }) => new Promise(resolve => socket.once('disconnect', () => resolve('ended'))))
      await api(`/api/users/${user}/sign-out`, 'POST')
      for (const [index, tab] of tabs.entries()) {
        // Nothing that it says from now on is heard.
        assert.equal(await Promise.race([ended[index], tab.socket.emitWithAck('join', 'x')]), 'ended')
      }
      assert.ok(ben.socket.connected)
    })

    for (const [how, [path, method], reason] of [['is signed out everywhere', ['sign-out', 'POST'], 'token_revoked'], ['is blocked', ['block', 'PUT'], 'forbidden']]) {
      test(`who ${how} hears it of every room before the connection ends`, async () => {
        const user = freshUser()
        const ada = await connect(transports, user, { '*': 'edit' })
        const rooms = await Promise.all(KINDS.map(room))
        for (const { kind, event, body } of rooms) assert.equal((await ada.ask(event, body)).ok, true, kind)
        const ended = within('the end of the connection', new Promise(resolve => ada.socket.once('disconnect', resolve)))
        await api(`/api/users/${user}/${path}`, method)
        assert.equal(await ended, 'io server disconnect')
        const revoked = ada.revoked().map(({ body }) => body)
        assert.deepEqual(revoked.map(body => body.room).sort(), rooms.flatMap(({ rooms }) => rooms).sort())
        assert.deepEqual([...new Set(revoked.map(body => body.reason))], [reason])
        assert.deepEqual([ada.told.at(-1).event, ada.told.at(-1).body.code], ['error', reason])
        for (const { rooms: names } of rooms) for (const name of names) assert.equal(await tell(name), 0, name)
      })
    }
  })
}
