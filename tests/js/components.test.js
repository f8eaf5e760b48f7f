// Components with the public Socket.IO client: the application's own snippets, changes that cross, and a Yjs client in the same page.

import { after, describe, test } from 'node:test'
import assert from 'node:assert/strict'

import * as Y from 'yjs'
import { WebsocketProvider } from 'y-websocket-3.1.0'
import WebSocket from 'ws'

import { io, mistaken } from './support/asyncapi.js'
import { ADMIN_TOKEN } from './support/server.js'
import { freshPage, serverForFile } from './support/suite.js'
import { JWT_SECRET, sign, tokenFor } from './support/tokens.js'
import { holdsFor, until, within } from './support/wait.js'

const server = serverForFile({ env: { JWT_SECRET } })

const ends = []
after(() => ends.forEach(end => end()))

/** A client that remembers all that it is told. */
class Client {
  static async connect (transports, user, role = 'edit') {
    const client = new Client()
    const token = sign({ userId: user, email: `${user}@example.org`, name: user, pages: { '*': role } })
    client.socket = io(server().url, { auth: { token }, transports, forceNew: true, reconnection: false })
    ends.push(() => client.socket.disconnect())
    client.told = []
    client.socket.onAny((event, body) => client.told.push({ event, body }))
    await within('a connection', new Promise((resolve, reject) => client.socket.on('connect', resolve).on('connect_error', reject)))
    return client
  }

  ask (event, ...args) { return within(`an answer to ${event}`, this.socket.emitWithAck(event, ...args)) }

  async does (event, body) {
    const answer = await this.ask(event, body)
    assert.equal(answer.ok, true, `${event}: ${JSON.stringify(answer)}`)
    return answer
  }

  /** Takes the first event of this name out of what has been told, waiting for it. */
  async next (event) {
    const index = await until(() => `${event}, told were ${JSON.stringify(this.told)}`,
      () => 1 + this.told.findIndex(told => told.event === event))
    return this.told.splice(index - 1, 1)[0].body
  }

  count (event) { return this.told.filter(told => told.event === event).length }

  /** Shows a component as an application does: what it had when it came, and each change on top. */
  async shows (componentId) {
    this.shown = (await this.does('component:subscribe', { componentId })).data
    this.socket.on('component:updated', told => {
      if (told.componentId === componentId) Object.assign(this.shown, told.updates)
    })
  }

  /** Changes its own copy at once and sends that. */
  update (componentId, updates) {
    Object.assign(this.shown, updates)
    return this.does('component:update', { componentId, updates })
  }
}

async function bridge (channelId, event, payload) {
  const body = JSON.stringify({ channelId, event, payload })
  const response = await server().api('/api/broadcast', { method: 'POST', headers: { 'content-type': 'application/json' }, body })
  return { status: response.status, body: await response.json() }
}

/** A Yjs client of a component's page. */
async function yjs (user, componentId) {
  const doc = new Y.Doc()
  const params = { token: tokenFor(user, { '*': 'edit' }) }
  const url = server().url.replace('http', 'ws') + '/ws'
  const provider = new WebsocketProvider(url, `component:${componentId}`, doc, { params, WebSocketPolyfill: WebSocket, disableBc: true })
  ends.push(() => {
    provider.destroy()
    doc.destroy()
  })
  await until(`${user} is in sync`, () => provider.synced)
  return doc.getMap('data')
}

const row = (id, ...components) => ({ id, components })
const ids = rows => rows.map(({ id }) => id)

for (const transports of [['websocket'], ['polling'], ['polling', 'websocket']]) {
  describe(transports.join(' and then '), () => {
    test("the application's own test: a subscriber hears that it has joined", async () => {
      const { socket } = await Client.connect(transports, 'ada')
      const heard = new Promise(resolve => {
        socket.emit('component:subscribe', { entityType: 'page', entityId: 'page-123' })
        socket.on('component:user-joined', data => resolve(data.userId))
      })
      assert.equal(await within('component:user-joined', heard), 'ada')
    })

    test('each event reaches whom it is for', async () => {
      const componentId = freshPage('card')
      const [ada, ben, eve] = [
        await Client.connect(transports, 'ada'), await Client.connect(transports, 'ben'), await Client.connect(transports, 'eve', 'view')
      ]
      for (const client of [ada, ben, eve]) {
        const answer = await client.does('component:subscribe', { componentId })
        assert.deepEqual([answer.data, answer.seq], [{}, 0])
        await client.next('component:user-joined')
      }
      assert.equal((await ada.next('component:user-joined')).userId, 'ben')
      assert.equal((await ada.next('component:user-joined')).userId, 'eve')
      // As the application emits, without an acknowledgement.
      ada.socket.emit('component:update', { componentId, updates: { title: 'Hello', rows: [row('r1')] } })
      for (const client of [ben, eve]) {
        const told = await client.next('component:updated')
        assert.deepEqual([told.componentId, told.updates, told.updatedBy], [componentId, { title: 'Hello', rows: [row('r1')] }, 'ada'])
        assert.equal(new Date(told.timestamp).toISOString(), told.timestamp)
      }
      const { seq, nestedComponentId } = await ben.does('component:nested-create', {
        componentId, rowId: 'r1', nestedComponent: { componentType: 'text', position: 0, data: { content: 'x' } }
      })
      assert.ok(seq > 0)
      for (const client of [ada, ben, eve]) {
        const told = await client.next('component:nested-created')
        assert.deepEqual(told, {
          componentId, rowId: 'r1', createdBy: 'ben', nestedComponent: { id: nestedComponentId, componentType: 'text', position: 0, data: { content: 'x' } }
        })
      }
      const nested = { componentId, rowId: 'r1', nestedComponentId }
      await ada.does('component:nested-update', { ...nested, updates: { data: { content: 'y' } }, clientOpId: 'op-1' })
      for (const client of [ben, eve]) {
        const { timestamp, ...told } = await client.next('component:nested-updated')
        assert.deepEqual(told, { ...nested, updates: { data: { content: 'y' } }, updatedBy: 'ada', clientOpId: 'op-1' })
      }
      await ada.does('component:nested-delete', nested)
      await ben.does('component:nested-delete', nested)
      for (const client of [ada, ben, eve]) assert.deepEqual(await client.next('component:nested-deleted'), { ...nested, deletedBy: 'ada' })
      // Who may only look.
      for (const [event, body] of [
        ['component:update', { componentId, updates: {} }],
        ['component:nested-update', { ...nested, updates: {} }],
        ['component:nested-create', { ...nested, nestedComponent: {} }],
        ['component:nested-delete', nested]
      ]) {
        assert.equal((await eve.ask(event, body)).error.code, 'read_only', event)
        const nobody = await mistaken(() => eve.ask(event))
        assert.equal(nobody.error.code, 'malformed', `${event} without a payload`)
      }
      assert.equal((await ben.ask('component:nested-update', { ...nested, updates: { a: 1 } })).error.code, 'not_found')
      ben.socket.emit('component:nested-update', { ...nested, updates: { a: 1 } })
      assert.equal((await ben.next('error')).code, 'not_found')
      // Typing is told again after two seconds at the earliest, the same cursor never.
      for (let times = 0; times < 3; times++) {
        await ada.does('component:typing', { componentId })
        await ada.does('component:cursor', { componentId, position: { x: 1 } })
      }
      for (const event of ['component:typing', 'component:cursor']) assert.equal((await ben.next(event)).userId, 'ada')
      await ben.does('component:unsubscribe', { componentId })
      assert.equal((await ada.next('component:user-left')).userId, 'ben')
      ada.socket.disconnect()
      assert.equal((await eve.next('component:user-left')).userId, 'ben')
      assert.equal((await eve.next('component:cursor-left')).userId, 'ada')
      assert.equal((await eve.next('component:user-left')).userId, 'ada')
      assert.deepEqual([eve.count('component:typing'), eve.count('component:cursor'), eve.count('component:nested-deleted')], [1, 1, 0])
      assert.equal(ben.count('component:updated') + ada.count('component:updated'), 0, 'nobody hears what it has written itself')
    })

    test('changes of two clients that cross are all there, and both and a Yjs client show the same', async () => {
      const componentId = freshPage('card')
      const [ada, ben] = [await Client.connect(transports, 'ada'), await Client.connect(transports, 'ben')]
      await ada.does('component:update', {
        componentId, updates: { title: 'one two three', n: 0, meta: { a: 1 }, rows: [row('r1'), row('r2'), row('r3')] }
      })
      await ada.shows(componentId)
      await ben.shows(componentId)
      const data = await yjs('cleo', componentId)
      assert.equal(data.get('title').toString(), 'one two three')
      const seen = []
      data.observeDeep(events => seen.push(...events.map(({ path }) => path.join('.'))))
      for (let round = 0; round < 5; round++) {
        const last = ada.shown
        await Promise.all([
          ada.update(componentId, {
            title: `${last.title} ada${round}`, n: `ada${round}`, meta: { ...last.meta, [`ada${round}`]: 1 }, rows: [...last.rows.toReversed(), row(`ada${round}`)]
          }),
          ben.update(componentId, {
            title: `ben${round} ${ben.shown.title}`, n: `ben${round}`, meta: { ...ben.shown.meta, [`ben${round}`]: 1 }, rows: [row(`ben${round}`), ...ben.shown.rows]
          })
        ])
        const same = () => JSON.stringify(Object.entries(ada.shown).sort()) === JSON.stringify(Object.entries(ben.shown).sort())
        await until(() => `round ${round}: both show the same: ${JSON.stringify([ada.shown, ben.shown], null, 1)}`, same)
        const names = ['ada', 'ben'].map(name => `${name}${round}`)
        for (const name of names) {
          assert.ok(ada.shown.title.split(' ').includes(name), ada.shown.title)
          assert.equal(ada.shown.meta[name], 1)
          assert.equal(ids(ada.shown.rows).filter(id => id === name).length, 1)
        }
        assert.ok(names.includes(ada.shown.n), ada.shown.n)
        assert.equal(new Set(ids(ada.shown.rows)).size, 3 + 2 * (round + 1), 'a move doubles nothing')
      }
      const end = (await (await Client.connect(transports, 'dora')).does('component:subscribe', { componentId })).data
      assert.deepEqual(ada.shown, end)
      await until('the Yjs client has it', () => data.get('title').toString() === end.title && data.get('n') === end.n)
      assert.ok(data.get('rows') instanceof Y.Array && data.get('rows').length === end.rows.length)
      assert.ok(seen.includes('title'), 'words were put into the text that is there')
    })

    test('what a Yjs client edits is told, and counts', async () => {
      const componentId = freshPage('card')
      const ada = await Client.connect(transports, 'ada')
      await ada.does('component:update', { componentId, updates: { title: 'one two', rows: [row('r1')] } })
      await ada.shows(componentId)
      const data = await yjs('cleo', componentId)
      data.get('title').insert(7, ' three')
      data.set('color', 'red')
      await until('it is told', () => ada.shown.color === 'red' && ada.shown.title === 'one two three')
      const told = await ada.next('component:updated')
      assert.equal(told.updatedBy, null)
      for (let n = 0; n < 4; n++) {
        data.set('count', n)
        await until('each of its edits is told', () => ada.shown.count === n)
      }
      // Deleted there, and updated here at the same time: it is gone, and who has updated it hears so.
      await ada.does('component:nested-create', { componentId, rowId: 'r1', nestedComponent: { id: 'n1' } })
      await until('it is there', () => data.get('rows').get(0).get('components').length === 1)
      data.get('rows').get(0).get('components').delete(0)
      await until('it is gone', async () => {
        const answer = await ada.ask('component:nested-update', { componentId, rowId: 'r1', nestedComponentId: 'n1', updates: { a: 1 } })
        return answer.error?.code === 'not_found'
      })
    })
  })
}

test('gestures end by themselves', async () => {
  const componentId = freshPage('card')
  const [ada, ben] = [await Client.connect(['websocket'], 'ada'), await Client.connect(['websocket'], 'ben')]
  for (const client of [ada, ben]) await client.does('component:subscribe', { componentId })
  const begin = performance.now()
  await ada.does('component:typing', { componentId })
  await ada.does('component:cursor', { componentId, position: 7 })
  await ben.next('component:typing')
  // Renewed once: it is told again after two seconds, and lasts five seconds from then.
  await until('typing is told again', async () => {
    await ada.does('component:typing', { componentId })
    return ben.count('component:typing') > 0
  })
  assert.ok(performance.now() - begin >= 1_900, 'not before two seconds')
  await ben.next('component:cursor-left')
  assert.ok(performance.now() - begin >= 4_900)
  await ben.next('component:typing-ended')
  assert.ok(performance.now() - begin >= 6_900)
  assert.equal(ben.count('component:cursor'), 1)
})

test('a user is told of once however many tabs it has', async () => {
  const componentId = freshPage('card')
  const [ada, ben] = [await Client.connect(['websocket'], 'ada'), await Client.connect(['websocket'], 'ben')]
  await ada.does('component:subscribe', { componentId })
  await ada.next('component:user-joined')
  const again = await Client.connect(['websocket'], 'ben')
  for (const client of [ben, again]) {
    await client.does('component:subscribe', { componentId })
    assert.equal((await client.next('component:user-joined')).userId, 'ben')
  }
  assert.equal((await ada.next('component:user-joined')).userId, 'ben')
  ben.socket.disconnect()
  await holdsFor('the other tab is there', 300, () => ada.count('component:user-left') + ada.count('component:user-joined') === 0)
  again.socket.disconnect()
  assert.equal((await ada.next('component:user-left')).userId, 'ben')
})

test('the backend changes components, and who asks from time to time gets them', async () => {
  const componentId = freshPage('card')
  const ada = await Client.connect(['websocket'], 'ada')
  await ada.does('component:subscribe', { componentId, entityType: 'page', entityId: componentId })
  const updated = await bridge(`entity:page:${componentId}`, 'component:update', { componentId, updates: { rows: [row('r1')] }, userId: 'backend' })
  assert.deepEqual(updated, { status: 200, body: { success: true, delivered: 1 } })
  assert.equal((await ada.next('component:updated')).updatedBy, 'backend')
  for (const [event, rest] of [
    ['component:nested-create', { nestedComponent: { id: 'n1' } }],
    ['component:nested-update', { nestedComponentId: 'n1', updates: { a: 1 } }],
    ['component:nested-delete', { nestedComponentId: 'n1' }]
  ]) {
    assert.equal((await bridge(`component:${componentId}`, event, { rowId: 'r1', ...rest })).status, 200, event)
    await ada.next(`${event}d`)
  }
  for (const event of ['component:created', 'component:deleted']) {
    await bridge(`entity:page:${componentId}`, event, { componentId: 'other' })
    assert.deepEqual(await ada.next(event), { componentId: 'other' })
  }
  for (const event of ['component:typing', 'component:cursor', 'component:user-joined', 'component:user-left']) {
    assert.equal((await bridge(`component:${componentId}`, event, {})).status, 403, `${event} is the server's own`)
  }
  const path = `/api/pages/component%3A${componentId}/content?format=json&field=data`
  const headers = { authorization: `Bearer ${ADMIN_TOKEN}` }
  const content = await fetch(server().url + path, { headers })
  assert.deepEqual(await content.json(), { rows: [row('r1')] })
  const again = await fetch(server().url + path, { headers: { ...headers, 'if-none-match': content.headers.get('etag') } })
  assert.equal(again.status, 304)
})
