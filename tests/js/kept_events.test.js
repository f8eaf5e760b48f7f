// Rules of an application's own with the public client: events that clients relay to each other, events that are kept for who joins later,
// and what a client hears when they are not kept in time.

import { after, before, describe, test } from 'node:test'
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'

import { io, mistaken } from './support/asyncapi.js'
import { Cluster, POSTGRES_BIN, serverOnFreshDatabase } from './support/postgres.js'
import { Server } from './support/server.js'
import { freshPage } from './support/suite.js'
import { JWT_SECRET, sign } from './support/tokens.js'
import { until, within } from './support/wait.js'

const keep = { count: 3, seconds: 60 }
const RULES = {
  relay: [
    { event: 'poll:vote', room: 'page:{pageId}', role: 'comment', maxBytes: 256, perSecond: 1, burst: 3, toSender: false, keep },
    { event: 'poll:echo', room: 'page:{pageId}', role: 'view', maxBytes: 256, perSecond: 100, burst: 100, toSender: true },
    { event: 'poll:brief', room: 'workspace:{workspaceId}', role: 'view', maxBytes: 256, perSecond: 100, burst: 100, toSender: false, keep: { count: 100, seconds: 2 } }
  ],
  keep: ['sidebar-change-notification', 'chat-session-created', 'chat-message-created', 'document-uploaded']
    .map(event => ({ room: 'user:*', event, ...keep }))
}
const folder = mkdtempSync(join(tmpdir(), 'pageroom-rules-'))
const PAGEROOM_EVENTS_FILE = join(folder, 'events.json')
writeFileSync(PAGEROOM_EVENTS_FILE, JSON.stringify(RULES))
const env = { JWT_SECRET, PAGEROOM_EVENTS_FILE }

const sockets = []
after(() => {
  for (const socket of sockets) socket.disconnect()
  rmSync(folder, { recursive: true })
})

/** A client that remembers all that it is told. */
async function connect (server, transports, user, pages) {
  const options = { transports, auth: { token: sign({ sub: user, name: user, pages }) }, forceNew: true, reconnection: false }
  const socket = io(server.url, options, { own: ['poll:vote', 'poll:echo', 'poll:brief'] })
  sockets.push(socket)
  const told = []
  socket.onAny((event, body) => told.push({ event, body }))
  await within('a connection', new Promise((resolve, reject) => socket.once('connect', resolve).once('connect_error', reject)))
  const heard = event => told.filter(one => one.event === event).map(({ body }) => body)
  return {
    socket,
    heard,
    ask: (event, body) => within(`an answer to ${event}`, socket.emitWithAck(event, body), 30_000),
    next: async event => {
      const index = await until(() => `${event}, told were ${JSON.stringify(told)}`, () => 1 + told.findIndex(one => one.event === event))
      return told.splice(index - 1, 1)[0].body
    }
  }
}

describe('rules', () => {
  let server
  before(async () => { server = await Server.start({ env }) })
  after(() => server.dispose())

  for (const transports of [['websocket'], ['polling'], ['polling', 'websocket']]) {
    test(`what clients may tell each other, over ${transports.join(' and then ')}`, async () => {
      const pageId = freshPage('poll')
      // Users of this test alone: events are counted by users.
      const [ann, bob, eve] = ['ann', 'bob', 'eve'].map(name => `${name}-${pageId}`)
      const ada = await connect(server, transports, ann, { [pageId]: 'comment' })
      const ben = await connect(server, transports, bob, { [pageId]: 'view' })
      const out = await connect(server, transports, eve, {})
      const { epoch, offset } = await ada.ask('join_page', { pageId })
      assert.equal((await ben.ask('join_page', { pageId })).ok, true)
      assert.equal((await ada.ask('poll:vote', { pageId, choice: 1, userId: 'somebody else' })).ok, true)
      assert.deepEqual(await ben.next('poll:vote'), { pageId, choice: 1, userId: ann }, 'its author is who it is')
      assert.equal((await ben.ask('poll:echo', { pageId })).ok, true)
      for (const client of [ada, ben]) assert.equal((await client.next('poll:echo')).userId, bob)
      assert.deepEqual(ada.heard('poll:vote'), [], 'its author does not hear it')
      // Who may not, and what is too long or too often.
      assert.equal((await ben.ask('poll:vote', { pageId })).error.code, 'forbidden')
      assert.equal((await out.ask('poll:vote', { pageId })).error.code, 'forbidden')
      assert.equal((await ada.ask('poll:vote', { pageId, choice: 'x'.repeat(300) })).error.code, 'too_large')
      assert.equal((await ada.ask('poll:vote', {})).error.code, 'malformed')
      for (const choice of [2, 3]) assert.equal((await ada.ask('poll:vote', { pageId, choice })).ok, true)
      const answers = await Promise.all(Array.from({ length: 5 }, () => ada.ask('poll:vote', { pageId, choice: 4 })))
      assert.ok(answers.some(({ ok, error }) => !ok && error.code === 'rate_limited'), JSON.stringify(answers))
      const counted = 1 + 2 + answers.filter(({ ok }) => ok).length
      await until('all that was not refused is heard', () => ben.heard('poll:vote').length === counted - 1)
      // More than is kept since then: there is a gap.
      const late = await connect(server, transports, `late-${pageId}`, { [pageId]: 'view' })
      const gap = await late.ask('join_page', { pageId, since: { epoch, offset } })
      assert.deepEqual([gap.missed, gap.complete], [0, false])
      const cid = await connect(server, transports, `cid-${pageId}`, { [pageId]: 'comment' })
      const since = await cid.ask('join_page', { pageId })
      assert.equal((await late.ask('leave_page', { pageId })).ok, true)
      for (const choice of [5, 6]) assert.equal((await cid.ask('poll:vote', { pageId, choice })).ok, true)
      const joined = await late.ask('join_page', { pageId, since: { epoch: since.epoch, offset: since.offset } })
      assert.deepEqual([joined.missed, joined.complete], [2, true])
      assert.deepEqual(late.heard('poll:vote').map(({ choice, userId }) => [choice, userId]), [5, 6].map(choice => [choice, `cid-${pageId}`]))
      const again = { epoch: joined.epoch, offset: joined.offset }
      const nothing = await late.ask('join_page', { pageId, since: again })
      assert.deepEqual([nothing.missed, nothing.complete], [0, true])
      const another = await late.ask('join_page', { pageId, since: { epoch: 'another', offset } })
      assert.deepEqual([another.missed, another.complete], [0, false])
      assert.equal((await mistaken(() => late.ask('join_page', { pageId, since: 7 }))).error.code, 'malformed')
      assert.equal(late.heard('poll:vote').length, 2)
    })

    test(`who was away for longer than events are kept hears that some are missing, over ${transports.join(' and then ')}`, async () => {
      const workspaceId = freshPage('w')
      const pages = { '*': 'view' }
      const [ada, ben] = [await connect(server, transports, 'ada', pages), await connect(server, transports, 'ben', pages)]
      const { epoch, offset } = await ada.ask('workspace:join', { workspaceId })
      assert.equal((await ada.ask('poll:brief', { workspaceId, choice: 1 })).ok, true)
      const join = async () => {
        const { missed, complete } = await ben.ask('workspace:join', { workspaceId, since: { epoch, offset } })
        assert.equal((await ben.ask('workspace:leave', { workspaceId })).ok, true)
        return { missed, complete }
      }
      assert.deepEqual(await join(), { missed: 1, complete: true })
      // Asked for again and again, but not so often that it is too often.
      await until('it is too long ago', async () => {
        await pause(100)
        return !(await join()).complete
      })
      const heard = ben.heard('poll:brief').length
      assert.deepEqual(await join(), { missed: 0, complete: false })
      assert.equal(ben.heard('poll:brief').length, heard, 'nothing is told again')
    })
  }
})

describe('PostgreSQL', {
  skip: POSTGRES_BIN ? false : 'SKIPPED: no PostgreSQL (PAGEROOM_TEST_POSTGRES_BIN is not set)'
}, () => {
  let cluster
  before(async () => { cluster = await Cluster.start() })
  after(() => cluster.dispose())

  for (const transports of [['websocket'], ['polling']]) {
    test(`what is not kept in time is answered so in the words of its kind, and kept later, over ${transports}`, async t => {
      const { server } = await serverOnFreshDatabase(t, cluster, env)
      const tab = await connect(server, transports, 'ada', {})
      const changes = [
        ['notify-sidebar-change', { changeType: 'chat_created', entityId: 'e', metadata: {} }, 'sidebar-change-notification', 'sidebar-error'],
        ['chat-session-created', { sessionId: 's', title: 'Tea' }, 'chat-session-created', 'chat-error'],
        ['chat-message-sent', { sessionId: 's', content: 'Hi', isUserMessage: true }, 'chat-message-created', 'chat-error'],
        ['document-uploaded', { documentId: 'd', title: 'Tea', totalPages: 1, filterTags: '' }, 'document-uploaded', 'document-error']
      ]
      // What one socket says is answered in order.
      const others = await Promise.all(changes.map(() => connect(server, transports, 'ada', {})))
      await cluster.down()
      await Promise.all(changes.map(async ([event, body, , refused], at) => {
        const { success, error } = await others[at].ask(event, body)
        assert.deepEqual([success, error?.code, error?.retryable], [false, 'unavailable', true], event)
        assert.equal(typeof (await others[at].next(refused)).error, 'string', event)
      }))
      // As with edits, others hear at once, and an answer says that it is stored.
      for (const [, , told] of changes) assert.equal(tab.heard(told).length, 1, told)
      await cluster.up()
      await until('readiness comes back', async () => (await server.readiness()) === 200, 30_000)
      await until('all of it is kept', async () => (await tab.ask('inbox:get', {})).events.length === changes.length, 30_000)
      const { events, complete } = await tab.ask('inbox:get', {})
      assert.deepEqual([events.map(({ event }) => event).sort(), complete], [changes.map(([, , told]) => told).sort(), true])
    })
  }
})
