// The store goes away under clients that save whole contents and change components: nothing is said to be saved that is not, nothing is
// there in halves, and what is said again when the store is back is there once.

import { describe, test, after, before } from 'node:test'
import assert from 'node:assert/strict'

import { io } from './support/asyncapi.js'
import { Cluster, POSTGRES_BIN, serverOnFreshDatabase } from './support/postgres.js'
import { freshPage } from './support/suite.js'
import { JWT_SECRET, tokenFor } from './support/tokens.js'
import { holdsFor, until, within } from './support/wait.js'

/** Long enough to be sure that no acknowledgement is coming. */
const NO_ACKNOWLEDGEMENT_MS = 2_500

/** How the store goes away, and comes back. */
const OUTAGES = [
  ['is stopped', async cluster => {
    await cluster.down()
    return () => cluster.up()
  }],
  ['hangs', (cluster, url) => cluster.lockTables(url)]
]

describe('PostgreSQL', {
  skip: POSTGRES_BIN ? false : 'SKIPPED: no PostgreSQL (PAGEROOM_TEST_POSTGRES_BIN is not set)'
}, () => {
  let cluster
  before(async () => { cluster = await Cluster.start() })
  after(() => cluster.dispose())

  async function begin (t) {
    const sockets = []
    t.after(() => { for (const socket of sockets) socket.disconnect() })
    const { server, url } = await serverOnFreshDatabase(t, cluster, { JWT_SECRET })
    /** A client that remembers all that it is told. */
    const connect = async (user, role = 'edit') => {
      const auth = { token: tokenFor(user, { '*': role }) }
      const socket = io(server.url, { transports: ['websocket'], auth, forceNew: true, reconnection: false })
      sockets.push(socket)
      const told = []
      socket.onAny((event, body) => told.push({ event, body }))
      await within('the connection', new Promise((resolve, reject) => socket.on('connect', resolve).on('connect_error', reject)))
      return {
        told,
        ask: (event, body) => within(`an answer to ${event}`, socket.emitWithAck(event, body), 30_000),
        /** Sends an event, whose answer is remembered when it comes. */
        begin: (event, body) => {
          const asked = { answer: null }
          socket.emit(event, body, answer => { asked.answer = answer })
          return asked
        },
        heard: event => told.filter(one => one.event === event).map(({ body }) => body)
      }
    }
    return { server, url, connect }
  }

  for (const [how, goAway] of OUTAGES) {
    test(`a store that ${how} while a content is saved`, async t => {
      const { server, url, connect } = await begin(t)
      const pageId = freshPage('save')
      const ada = await connect('ada')
      const ben = await connect('ben')
      for (const client of [ada, ben]) assert.equal((await client.ask('join_page', pageId)).ok, true)
      const cleo = await connect('cleo', 'view')
      assert.equal((await cleo.ask('join_channel', pageId)).ok, true)
      const { seq } = await ada.ask('page_updated', { pageId, content: 'one two' })
      await until('Ben has it', () => ben.heard('page_updated').length === 1)

      const content = 'one two three'
      const comeBack = await goAway(cluster, url)
      const saves = [ada.begin('page_updated', { pageId, content })]
      // As who has waited too long for an answer does.
      saves.push(ada.begin('page_updated', { pageId, content }), ada.begin('document_update', { pageId, content }))
      await holdsFor('nothing is answered, and nobody is sent what is not saved', NO_ACKNOWLEDGEMENT_MS, () =>
        saves.every(({ answer }) => answer === null) &&
        ben.heard('page_updated').length === 1 && cleo.heard('document_update').length === 1)
      await comeBack()
      await until(() => `all is answered: ${JSON.stringify(saves)}`, () => saves.every(({ answer }) => answer), 30_000)
      // One of them has changed the page.
      const [{ answer: { seq: version } }] = saves
      assert.ok(version > seq)
      assert.deepEqual(saves.map(({ answer }) => answer), Array(3).fill({ ok: true, seq: version }))
      const told = { pageId, content, version, userId: 'ada' }
      await until('both are told', () => ben.heard('page_updated').length === 2 && cleo.heard('document_update').length === 2)
      assert.deepEqual([ben.heard('page_updated')[1], cleo.heard('document_update')[1]], [told, told])
      assert.equal(ada.heard('page_updated').length, 0, 'what it has saved itself is nothing new to it')
      await server.restart()
      assert.equal((await server.content(pageId)).content, content)
    })

    test(`a store that ${how} while components are changed`, async t => {
      const { server, url, connect } = await begin(t)
      const componentId = freshPage('component')
      const ada = await connect('ada')
      const ben = await connect('ben')
      for (const client of [ada, ben]) assert.equal((await client.ask('component:subscribe', { componentId })).ok, true)
      const rows = [{ id: 'r', components: [{ id: 'old' }] }]
      assert.equal((await ada.ask('component:update', { componentId, updates: { title: 'before', rows } })).ok, true)

      const comeBack = await goAway(cluster, url)
      const told = ben.told.length
      const changes = [
        ['component:update', { componentId, updates: { title: 'after' } }],
        ['component:nested-create', { componentId, rowId: 'r', nestedComponent: { id: 'new', data: {} } }],
        ['component:nested-update', { componentId, rowId: 'r', nestedComponentId: 'new', updates: { data: { content: 'x' } } }],
        ['component:nested-delete', { componentId, rowId: 'r', nestedComponentId: 'old' }]
      ]
      const asked = changes.map(change => ada.begin(...change))
      await holdsFor('nothing is answered, and nobody is told', NO_ACKNOWLEDGEMENT_MS, () =>
        asked.every(({ answer }) => answer === null) && ben.told.length === told)
      await comeBack()
      await until(() => `all is answered: ${JSON.stringify(asked)}`, () => asked.every(({ answer }) => answer), 30_000)
      const seqs = asked.map(({ answer }) => answer.ok && answer.seq)
      assert.ok(seqs.every((seq, at) => seq > (seqs[at - 1] ?? 0)), JSON.stringify(asked))
      const names = ['component:updated', 'component:nested-created', 'component:nested-updated', 'component:nested-deleted']
      await until('Ben is told all of it', () => ben.told.length === told + 4)
      assert.deepEqual(ben.told.slice(told).map(({ event }) => event), names, 'once, and in order')
      // What is said again by who does not know that it was heard changes nothing.
      for (const change of changes) assert.equal((await ada.ask(...change)).ok, true, change[0])
      const expected = { title: 'after', rows: [{ id: 'r', components: [{ id: 'new', data: { content: 'x' } }] }] }
      await server.restart()
      const again = await connect('eve', 'view')
      assert.deepEqual((await again.ask('component:subscribe', { componentId })).data, expected)
    })
  }

  test('what is asked of a page or a component that cannot be read is refused for now, and done once when it is asked again', async t => {
    const { server, connect } = await begin(t)
    const [pageId, componentId] = [freshPage('save'), freshPage('component')]
    const before = await connect('ada')
    assert.equal((await before.ask('document_update', { pageId, content: 'one' })).ok, true)
    const rows = [{ id: 'r', components: [] }]
    assert.equal((await before.ask('component:update', { componentId, updates: { rows } })).ok, true)
    await server.restart()
    const ada = await connect('ada')
    const ben = await connect('ben', 'view')
    assert.equal((await ben.ask('join_channel', pageId)).ok, true)
    await cluster.down()
    const nestedComponent = { id: 'n', data: { content: 'x' } }
    const asked = [
      ['document_update', { pageId, content: 'one two' }],
      ['component:update', { componentId, updates: { title: 'after' } }],
      ['component:nested-create', { componentId, rowId: 'r', nestedComponent }]
    ]
    for (const [event, body] of [['join_page', pageId], ['component:subscribe', { componentId }], ...asked]) {
      const { ok, error } = await ada.ask(event, body)
      assert.deepEqual([ok, error.code, error.retryable], [false, 'unavailable', true], event)
    }
    assert.deepEqual(ben.heard('document_update'), [])
    await cluster.up()
    await until('readiness comes back', async () => (await server.readiness()) === 200, 30_000)
    for (const [event, body] of asked) assert.equal((await ada.ask(event, body)).ok, true, event)
    await until('Ben is told', () => ben.heard('document_update').length === 1)
    assert.equal(ben.heard('document_update')[0].content, 'one two')
    const { data } = await ada.ask('component:subscribe', { componentId })
    assert.deepEqual(data, { title: 'after', rows: [{ id: 'r', components: [nestedComponent] }] })
  })

  test('a save and a change that were not answered before a power cut are there once when they are said again', async t => {
    const { server, connect } = await begin(t)
    const [pageId, componentId] = [freshPage('save'), freshPage('component')]
    const ada = await connect('ada')
    assert.equal((await ada.ask('join_page', pageId)).ok, true)
    assert.equal((await ada.ask('component:subscribe', { componentId })).ok, true)
    assert.equal((await ada.ask('page_updated', { pageId, content: 'one two' })).ok, true)
    assert.equal((await ada.ask('component:update', { componentId, updates: { rows: [{ id: 'r', components: [] }] } })).ok, true)
    await cluster.down()
    const save = ['page_updated', { pageId, content: 'one two three' }]
    const create = ['component:nested-create', { componentId, rowId: 'r', nestedComponent: { id: 'n' } }]
    const asked = [save, create].map(change => ada.begin(...change))
    await until('readiness goes red', async () => (await server.readiness()) === 503)
    assert.deepEqual(asked.map(({ answer }) => answer), [null, null])
    await server.kill()
    await cluster.up()
    await server.launch()
    const again = await connect('ada')
    assert.equal((await again.ask('join_page', pageId)).ok, true)
    await until('it is sent what was answered', () => again.heard('page_updated').length === 1)
    assert.equal(again.heard('page_updated')[0].content, 'one two')
    for (const change of [save, create]) assert.equal((await again.ask(...change)).ok, true, change[0])
    assert.equal((await server.content(pageId)).content, 'one two three')
    const { data } = await again.ask('component:subscribe', { componentId })
    assert.deepEqual(data, { rows: [{ id: 'r', components: [{ id: 'n' }] }] })
  })
})
