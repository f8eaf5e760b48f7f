// PageSpace's vocabulary with the client package that its application uses: rooms, who is at a page, saves, rights and tokens that end; and
// what the application's own components do with them.

import { after, describe, test } from 'node:test'
import assert from 'node:assert/strict'

import { io, mistaken, SERVERS_OWN } from './support/asyncapi.js'
import { freshPage, serverForFile } from './support/suite.js'
import { JWT_SECRET, sign } from './support/tokens.js'
import { holdsFor, until, within } from './support/wait.js'

const server = serverForFile({ env: { JWT_SECRET } })

/** Clocks may differ by so many seconds: a token is good for as long behind its end. */
const LEEWAY_SECONDS = 15

/** Events of the application alone. */
const OWN = ['notification:new']

/** What the application's backend tells, in its former and in its present words. */
const BACKEND_EVENTS = [
  ...['created', 'deleted', 'moved', 'restored', 'updated'].map(what => `page_${what}`),
  ...['new_message', 'message_updated', 'message_deleted', 'message_edited', 'typing', 'task_created', 'task_updated', 'task_completed'],
  ...['created', 'updated', 'moved', 'deleted', 'restored', 'trashed', 'content-updated'].map(what => `page:${what}`),
  ...['created', 'updated', 'deleted', 'member_added', 'member_role_changed', 'member_removed'].map(what => `drive:${what}`),
  ...['task_list_created', 'task_added', 'task_updated', 'task_completed', 'task_deleted', 'tasks_reordered'].map(what => `task:${what}`),
  ...['dm_updated', 'channel_updated', 'read_status_changed', 'thread_updated'].map(what => `inbox:${what}`),
  ...['created', 'updated', 'deleted', 'rsvp_updated'].map(what => `calendar:${what}`),
  ...['credits:updated', 'activity:logged', 'reaction_added', 'reaction_removed', 'thread_reply_count_updated', 'new_dm_message'],
  ...['stream_start', 'stream_complete', 'user_message', 'message_edited', 'message_deleted', 'undo_applied'].map(what => `chat:${what}`),
  ...['conversation_added', 'conversation_renamed', 'conversation_deleted', 'global_conversation_added'].map(what => `chat:${what}`),
  ...['created', 'updated', 'closed', 'reopened', 'deleted'].map(what => `conversation:${what}`),
  ...['message_created', 'message_updated', 'message_deleted', 'undo_applied'].map(what => `conversation:${what}`),
  ...['created', 'updated', 'ended'].map(what => `session:${what}`), ...['added', 'revoked', 'warning'].map(what => `device:${what}`),
  'permission_granted', 'permission_revoked', 'member_added', 'member_removed', 'notification:new', 'agent:grant_changed',
  'workspace:nodes-updated'
]

/** The events by which rooms are joined and left, and the rooms of each. */
const TOPICS = [
  ['channel', id => [id, `page:${id}`]],
  ['drive', id => [`drive:${id}`, `drive:${id}:calendar`]],
  ['dm_conversation', id => [`dm:${id}`]],
  ['conversation', id => [`conv:${id}`]],
  ['session', id => [`session:${id}`]],
  ['activity_drive', id => [`activity:drive:${id}`]],
  ['activity_page', id => [`activity:page:${id}`]]
]

/** Under which name the right to the rooms of a topic is asked for. */
const rightOf = (topic, id) => {
  if (['channel', 'activity_page'].includes(topic)) return id
  return topic.endsWith('drive') ? `drive:${id}` : TOPICS.find(([name]) => name === topic)[1](id)[0]
}

const sockets = []
after(() => sockets.forEach(socket => socket.disconnect()))

/** A client that remembers all that it is told. */
async function connect (transports, user, pages, { expiresIn, own = [] } = {}) {
  const auth = { token: sign({ sub: user, name: `${user} of the tests`, pages }, { expiresIn }) }
  const socket = io(server().url, { transports, auth, forceNew: true, reconnection: false }, { own: [...OWN, ...own] })
  sockets.push(socket)
  const told = []
  socket.onAny((event, body) => told.push({ event, body }))
  const connected = new Promise((resolve, reject) => socket.on('connect', resolve).on('connect_error', reject))
  await within('the connection', connected)
  return {
    socket,
    told,
    ask: (event, ...body) => within(`an answer to ${event}`, socket.emitWithAck(event, ...body)),
    /** Takes the first event of this name out of what has been told, waiting for it. */
    async next (event) {
      const index = await until(() => `${event}, told were ${JSON.stringify(told)}`, () => 1 + told.findIndex(one => one.event === event))
      return told.splice(index - 1, 1)[0].body
    }
  }
}

/** Tells an event as the backend; gives how many sockets heard it. */
async function tell (channelId, event, payload) {
  const response = await server().api('/api/broadcast', { method: 'POST', body: JSON.stringify({ channelId, event, payload }) })
  const answer = await response.json()
  assert.equal(response.status, 200, JSON.stringify(answer))
  return answer.delivered
}

async function grant (page, user, role) {
  const path = `/api/pages/${encodeURIComponent(page)}/permissions/${user}`
  const given = { method: 'PUT', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ role }) }
  const response = await server().api(path, role ? given : { method: 'DELETE' })
  assert.ok(response.ok, await response.text())
}

for (const transports of [['websocket'], ['polling'], ['polling', 'websocket']]) {
  describe(transports.join(' and then '), () => {
    test('every room is joined with a right, heard once, and left', async () => {
      const ada = await connect(transports, 'ada', { '*': 'view' })
      for (const [topic, roomsOf] of TOPICS) {
        const id = freshPage(topic)
        assert.equal((await ada.ask(`join_${topic}`, id)).ok, true, topic)
        assert.equal((await ada.ask(`join_${topic}`, id)).ok, true, 'again')
        for (const room of roomsOf(id)) {
          const message = { id: room, content: 'Grüße 👋', nested: [null, { n: 1.5 }] }
          assert.equal(await tell(room, 'new_message', message), 1, room)
          assert.deepEqual(await ada.next('new_message'), message)
        }
        assert.equal((await ada.ask(`leave_${topic}`, id)).ok, true)
        for (const room of roomsOf(id)) assert.equal(await tell(room, 'new_message', {}), 0, room)
        assert.ok(!ada.told.some(({ event }) => event === 'new_message'), 'once')
      }
    })

    test('what the backend tells under the names of the application comes as it was told', async () => {
      const ada = await connect(transports, 'ada', { '*': 'view' }, { own: BACKEND_EVENTS })
      const pageId = freshPage()
      for (const [join, room] of [['join_channel', pageId], ['join_drive', `drive:${pageId}`]]) {
        assert.equal((await ada.ask(join, pageId)).ok, true)
        for (const event of BACKEND_EVENTS) {
          // Members that nothing is known of stay, in their order.
          const payload = { pageId, b: [1.5, null, { '': 'Grüße 👋' }], a: 'last', userId: 'of the application' }
          assert.equal(await tell(room, event, payload), 1, event)
          assert.equal(JSON.stringify(await ada.next(event)), JSON.stringify(payload), event)
        }
      }
    })

    test('no room is joined without a right, the connection stays, and a right counts from when it is given until it is taken', async () => {
      const user = `ada${process.pid}${transports.length}${transports[0]}`
      const ada = await connect(transports, user, {})
      for (const [topic, roomsOf] of TOPICS) {
        const id = freshPage(topic)
        // Also without an answer, as the application asks.
        ada.socket.emit(`join_${topic}`, id)
        const refused = await ada.ask(`join_${topic}`, id)
        assert.deepEqual([refused.ok, refused.error.code, refused.error.retryable], [false, 'forbidden', false], topic)
        for (const room of roomsOf(id)) assert.equal(await tell(room, 'new_message', {}), 0, room)
        const asked = rightOf(topic, id)
        await grant(asked, user, 'view')
        const [came, went, body] = asked.startsWith('drive:')
          ? ['member_added', 'member_removed', { driveId: id, userId: user }]
          : ['permission_granted', 'permission_revoked', { pageId: asked, userId: user }]
        assert.deepEqual(await ada.next(came), { ...body, role: 'view' })
        assert.equal((await ada.ask(`join_${topic}`, id)).ok, true, topic)
        await grant(asked, user, null)
        assert.deepEqual(await ada.next(went), body)
        // Both names of a page's room are one.
        const rooms = topic === 'channel' ? [id] : roomsOf(id)
        const revoked = []
        while (revoked.length < rooms.length) revoked.push(await ada.next('access_revoked'))
        assert.deepEqual(revoked.map(({ room, reason }) => [room, reason]).sort(), rooms.map(room => [room, 'forbidden']).sort())
        for (const room of roomsOf(id)) assert.equal(await tell(room, 'new_message', {}), 0, room)
      }
      assert.ok(ada.socket.connected)
      assert.ok(!ada.told.some(({ event }) => event === 'new_message'))
    })

    test('personal rooms are there from the start and can be neither entered nor left', async () => {
      const user = `bob${process.pid}${transports.length}${transports[0]}`
      const bob = await connect(transports, user, { '*': 'admin' })
      const rooms = ['', ':tasks', ':calendar', ':drives', ':global', ':sessions'].map(part => `user:${user}${part}`)
      rooms.push(`notifications:${user}`)
      for (const event of ['join', 'leave']) {
        bob.socket.emit(event, `user:${user}:drives`)
        assert.equal((await bob.ask(event, 'user:eve')).ok, true)
      }
      for (const room of rooms) {
        assert.equal(await tell(room, 'notification:new', { room }), 1, room)
        assert.deepEqual(await bob.next('notification:new'), { room })
      }
      // Whatever is called like the room of somebody else is a page at most.
      for (const room of ['user:nobody', 'notifications:nobody', 'user:nobody:drives']) {
        for (const event of ['join_channel', 'join_drive', 'join_session']) await bob.ask(event, room)
        assert.equal(await tell(room, 'notification:new', {}), 0, room)
      }
      // What was kept for a user while it was away is asked for.
      const away = `cleo${process.pid}${transports.length}${transports[0]}`
      await tell(`notifications:${away}`, 'notification:new', { n: 1 })
      const cleo = await connect(transports, away, {})
      const { events, complete } = await cleo.ask('inbox:get')
      assert.deepEqual([events.map(({ event, payload }) => [event, payload]), complete], [[['notification:new', { n: 1 }]], true])
      assert.ok(!cleo.told.some(({ event }) => event === 'notification:new'), 'never unasked')
    })

    test('who is at a page is told in whole lists, of which a visitor takes leave', async () => {
      const pageId = freshPage()
      const [ada, ben] = [await connect(transports, 'ada', { '*': 'view' }), await connect(transports, 'ben', { '*': 'view' })]
      const eve = await connect(transports, 'eve', {})
      const ids = ({ viewers }) => viewers.map(({ userId }) => userId).sort().join()
      const shows = async (client, expected) => { while (ids(await client.next('presence:page_viewers')) !== expected); }
      assert.equal((await ada.ask('presence:join_page', { pageId })).ok, true)
      await shows(ada, 'ada')
      assert.equal((await eve.ask('presence:join_page', { pageId })).error.code, 'forbidden')
      ben.socket.emit('presence:join_page', { pageId })
      await shows(ada, 'ada,ben')
      await shows(ben, 'ada,ben')
      assert.equal((await ben.ask('presence:leave_page', { pageId })).ok, true)
      await shows(ada, 'ada')
      assert.ok(!eve.told.some(({ event }) => event.startsWith('presence:')))
    })

    test('what is malformed is refused in the words that the application compares, and terminals are not here', async () => {
      const ada = await connect(transports, 'ada', { '*': 'edit' })
      for (const [event, bad, error] of [
        ['join_channel', { toString: 'x' }, 'Page ID must be a string'], ['join_channel', 'a\u0000b', 'invalid Page ID format'],
        ['join_drive', 7, 'Drive ID must be a string'], ['leave_drive', null, 'Drive ID must be a string'],
        ['join_dm_conversation', [], 'Conversation ID must be a string'], ['join_conversation', '', 'Conversation ID must be a valid ID'],
        ['join_session', true, 'Session ID must be a string'], ['join_activity_drive', 'x'.repeat(256), 'Drive ID must be a valid ID'],
        ['presence:join_page', 'x', 'Invalid payload: pageId required'], ['presence:leave_page', {}, 'Invalid payload: pageId required']
      ]) {
        const { error: refusal } = await mistaken(() => ada.ask(event, bad))
        assert.deepEqual([refusal.code, refusal.message], ['malformed', error], event)
        mistaken(() => ada.socket.emit(event, bad))
        assert.deepEqual(await ada.next('validation_error'), { event, error })
      }
      for (const event of ['shell:connect', 'shell:input', 'shell:resize', 'shell:disconnect']) {
        assert.equal((await ada.ask(event, { shellId: 's', cols: 80, rows: 24, data: 'ls', connectionId: event })).ok, false)
        assert.equal((await ada.next('shell:error')).connectionId, event)
      }
      assert.equal((await ada.ask('join_channel', 'x')).ok, true, 'the connection stays')
    })

    test("names that are nobody's and the server's own names are refused, counted, and told to nobody", async () => {
      const pageId = freshPage()
      const own = [...SERVERS_OWN, 'no-such-event', 'new_message', 'index:ready', 'constructor', '__proto__']
      const [ada, ben] = [await connect(transports, 'ada', { '*': 'edit' }, { own }), await connect(transports, 'ben', { '*': 'edit' })]
      for (const client of [ada, ben]) {
        for (const [event, body] of [['join_channel', pageId], ['join_drive', pageId], ['workspace:join', { workspaceId: pageId }]]) {
          assert.equal((await client.ask(event, body)).ok, true)
        }
      }
      const count = async () => Number(/refus[a-z_]*\{[^}]*not_found[^}]*\} (\d+)/.exec(await (await server().api('/metrics')).text())?.[1] ?? 0)
      await until('what it hears of coming', () => ben.told.some(({ event }) => event === 'presence:workspace'))
      const before = await count()
      for (const event of own) {
        const body = { pageId, channelId: pageId, room: pageId, userId: 'ben', message: 'of nobody' }
        const { ok, error } = await ada.ask(event, body)
        assert.deepEqual([ok, error?.code], [false, 'not_found'], event)
        ada.socket.emit(event, body)
      }
      assert.equal((await ada.ask('join', 'x')).ok, true, 'the connection stays')
      assert.ok(await count() >= before + own.length, 'counted')
      assert.equal(await tell(pageId, 'notification:new', {}), 2)
      for (const client of [ada, ben]) {
        await client.next('notification:new')
        assert.deepEqual(client.told.filter(({ body }) => body?.message === 'of nobody'), [])
      }
    })

    test('a channel hears what is saved, and who may only read saves nothing', async () => {
      const pageId = freshPage()
      const [ada, ben] = [await connect(transports, 'ada', { '*': 'edit' }), await connect(transports, 'ben', { '*': 'view' })]
      for (const client of [ada, ben]) assert.equal((await client.ask('join_channel', pageId)).ok, true)
      assert.ok((await ada.ask('document_update', { pageId, content: 'by Ada' })).seq > 0)
      const heard = await ben.next('document_update')
      assert.deepEqual([heard.pageId, heard.content, heard.userId], [pageId, 'by Ada', 'ada'])
      assert.equal((await ben.ask('document_update', { pageId, content: 'by Ben' })).error.code, 'read_only')
      ben.socket.emit('document_update', { pageId, content: 'by Ben' })
      assert.deepEqual(await ben.next('error'), { event: 'document_update', message: 'Access denied: Requires edit permission' })
      assert.equal((await server().content(pageId)).content, 'by Ada')
    })

    test('a token that ends is asked for, and only one of the same user takes its place', async () => {
      const pageId = freshPage()
      const ada = await connect(transports, 'ada', { '*': 'edit' }, { expiresIn: 4 - LEEWAY_SECONDS })
      assert.equal((await ada.ask('join_page', pageId)).ok, true)
      const { expiresInMs } = await ada.next('auth_expiring')
      const token = (user, expiresIn) => ({ token: sign({ sub: user, pages: { '*': 'edit' } }, { expiresIn }) })
      assert.equal((await ada.ask('auth:refresh', token('ben', 60))).error.code, 'forbidden')
      assert.equal((await ada.ask('auth:refresh', token('ada', -60))).error.code, 'token_expired')
      assert.equal((await ada.ask('auth:refresh', token('ada', 60))).ok, true)
      await holdsFor('the connection outlives its first token', expiresInMs + 500, () => ada.socket.connected)
      assert.equal((await ada.ask('page_updated', { pageId, content: 'still here' })).ok, true)
    })

    test('two documents that are open in the application as it was written end equal', async () => {
      const pageId = freshPage()
      /** What the application does where it shows a document. */
      const documentView = async user => {
        const { socket } = await connect(transports, user, { '*': 'edit' })
        const view = { content: '', localVersion: 0, typing: new Set(), joined: false }
        socket.on('joined_page', data => { view.joined = data.pageId === pageId })
        socket.on('page_updated', data => { if (data.pageId === pageId) view.content = data.content })
        socket.on('user_typing', ({ userId }) => view.typing.add(userId))
        socket.on('user_stopped_typing', ({ userId }) => view.typing.delete(userId))
        socket.emit('join_page', pageId)
        view.type = () => socket.emit('typing_start', { pageId })
        view.stop = () => socket.emit('typing_stop', { pageId })
        view.save = content => {
          view.localVersion++
          socket.emit('page_updated', { pageId, content, version: view.localVersion })
          view.content = content
        }
        view.close = () => socket.emit('leave_page', pageId)
        await until('it has joined', () => view.joined)
        return view
      }
      const ada = await documentView('ada')
      ada.save('one two three')
      const ben = await documentView('ben')
      await until('Ben shows it', () => ben.content === 'one two three')
      ada.type()
      await until('Ben sees Ada type', () => ben.typing.has('ada'))
      ada.stop()
      await until('and end', () => ben.typing.size === 0)
      // Both save the whole content at once, and neither loses a word.
      ada.save('zero one two three')
      ben.save('one two three four')
      const expected = 'zero one two three four'
      await until(() => `both show both: ${ada.content} | ${ben.content}`, () => ada.content === expected && ben.content === expected)
      ben.close()
      ada.save(`${expected} five`)
      await until('the page has it', async () => (await server().content(pageId)).content === `${expected} five`)
      assert.equal(ben.content, expected, 'nothing is heard of a page that was left')
    })
  })
}
