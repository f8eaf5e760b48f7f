// `kill -9` while pages are renamed and compacted and people write into them: what was acknowledged is there afterwards, once, and
// everybody meets in it. In some rounds PostgreSQL crashes as well.
//
// PAGEROOM_TEST_SEED repeats a run, PAGEROOM_TEST_ROUNDS changes the number of rounds.

import { after, test } from 'node:test'
import assert from 'node:assert/strict'

import * as Y from 'yjs'

import { Client, PROVIDERS, converged, disposeClients, whenStored } from './support/clients.js'
import { Cluster, POSTGRES_BIN } from './support/postgres.js'
import { Random, seedOfRun } from './support/random.js'
import { RawClient, disposeRawClients, syncStep1, syncUpdate } from './support/raw.js'
import { Server } from './support/server.js'
import { until } from './support/wait.js'

const ROUNDS = Number(process.env.PAGEROOM_TEST_ROUNDS ?? 5)
/** In every so many rounds the database crashes as well. */
const POWER_CUT_EVERY = 3
const WRITERS = 3
/** y-sweet's client gives up where it cannot get a token, which it asks the server that is away for. */
const VERSIONS = PROVIDERS.filter(({ name }) => !name.startsWith('y-sweet'))
const seed = seedOfRun()

after(() => {
  disposeClients()
  disposeRawClients()
})

/** What goes on when a test gives up. */
const stops = []
after(() => { for (const stop of stops) stop() })

let words = 0

/** Writes words of its own, of which it knows which were acknowledged. It begins anew with what is there when its document is refused. */
class Writer {
  constructor (server, page) {
    Object.assign(this, { server, page, written: [], acknowledged: new Set(), isOver: false, isReady: false, beginnings: 0 })
  }

  async connect () {
    this.isReady = false
    this.beginnings++
    const doc = new Y.Doc()
    const waiting = []
    const raw = new RawClient(this.server, this.page)
    Object.assign(this, { doc, waiting, raw })
    raw.onMessage = message => {
      raw.messages.length = 0
      if (message.kind !== 'step2' && message.kind !== 'update') return
      if (message.kind === 'step2') this.isReady = true
      // One's own words in a frame from the server are the acknowledgement of them.
      for (const { id, length } of Y.decodeUpdate(message.body).structs) {
        if (id.client !== doc.clientID) continue
        while (waiting[0]?.end <= id.clock + length) this.acknowledged.add(waiting.shift().word)
      }
      Y.applyUpdate(doc, message.body, this)
    }
    raw.closed.then(() => { if (!this.isOver && this.raw === raw) setTimeout(() => this.isOver || this.connect(), 5) })
    doc.on('update', (update, origin) => { if (origin !== this && raw.isOpen) raw.send(syncUpdate(update)) })
    await Promise.race([raw.whenOpen(), raw.closed]).catch(() => {})
    if (raw.isOpen) raw.send(syncStep1(Y.encodeStateVector(doc)))
  }

  write () {
    if (!this.isReady || !this.raw.isOpen || this.waiting.length > 20) return
    const text = this.doc.getText('text')
    const word = `<${words++}>`
    text.insert(text.length, word)
    this.written.push(word)
    this.waiting.push({ word, end: Y.getState(this.doc.store, this.doc.clientID) })
  }

  end () {
    this.isOver = true
    this.raw.dispose()
  }
}

const post = (server, path, body) => server.api(`/api/pages/${path}`, { method: 'POST', ...(body && { body: JSON.stringify(body) }) })

/** Changes the page again and again until the server is gone. */
async function change (server, once, counted) {
  while (!server.expected) {
    try {
      const response = await once()
      const text = await response.text()
      // While another one goes on, or where its page has just been called otherwise.
      counted.last = `${response.status} ${text}`
      if (response.status === 200) counted.changes++
      else assert.ok([404, 409, 429, 503].includes(response.status), `${response.status} ${text}`)
    } catch (error) {
      // A connection that the server before had closed says so only now.
      if (error instanceof assert.AssertionError) throw error
      counted.last = `${error} ${error.cause}`
    }
  }
}

/** What is wrong with a text: acknowledged words that are not there, and words that are there twice. */
function wrong (text, writers) {
  return writers.flatMap(writer => writer.written.flatMap(word => {
    const times = text.split(word).length - 1
    if (times > 1) return [`${word} is there ${times} times`]
    return times === 0 && writer.acknowledged.has(word) ? [`${word} is not there`] : []
  }))
}

async function textOf (server, page) {
  const snapshot = await server.snapshot(page)
  const doc = new Y.Doc()
  if (snapshot) Y.applyUpdate(doc, snapshot)
  assert.ok(!doc.store.pendingStructs && !doc.store.pendingDs, 'nothing waits for what is not there')
  return doc.getText('text').toString()
}

/** Lets people write while something is done with their page, and the server die; again and again. */
async function campaign ({ server, cluster, page, once, random }) {
  const counted = { rounds: 0, changes: 0, acknowledged: 0, beginnings: 0 }
  const writers = []
  for (let round = 0; round < ROUNDS; round++) {
    const here = Array.from({ length: WRITERS }, () => new Writer(server, page))
    writers.push(...here)
    await Promise.all(here.map(writer => writer.connect()))
    const writing = setInterval(() => { for (const writer of here) writer.write() }, 25)
    stops.push(() => { clearInterval(writing); for (const writer of here) writer.end() })
    const acknowledged = () => here.reduce((sum, writer) => sum + writer.acknowledged.size, 0)
    await until(() => `something is acknowledged in round ${round}\n${server.log()}`, () => acknowledged() > 0)
    const before = counted.changes
    const changing = change(server, once, counted)
    // Every other one dies in the middle of one of the first changes, and the others a little later.
    if (round % 2 === 1) await until(() => `the page is changed in round ${round}: ${counted.last}\n${server.log()}`, () => counted.changes > before)
    await new Promise(resolve => setTimeout(resolve, random.below(200)))
    const cuts = cluster !== undefined && round % POWER_CUT_EVERY === POWER_CUT_EVERY - 1
    await Promise.all([server.kill(), cuts && cluster.down()])
    clearInterval(writing)
    for (const writer of here) writer.end()
    await changing
    if (cuts) await cluster.up()
    await server.launch()
    assert.deepEqual(wrong(await textOf(server, page), writers), [], `round ${round}`)
    counted.rounds++
  }
  counted.acknowledged = writers.reduce((sum, writer) => sum + writer.acknowledged.size, 0)
  counted.beginnings = writers.reduce((sum, writer) => sum + writer.beginnings, 0)
  const { last, ...numbers } = counted
  console.log(`killed changes: ${page} ${JSON.stringify(numbers)}`)
  return { counted, writers }
}

async function campaigns (t, server, cluster) {
  console.log(`killed changes: PAGEROOM_TEST_SEED=${seed}`)
  const random = new Random(seed)

  // A page that is called otherwise, again and again, is found under its first id, also by those who had it open all the time.
  const clients = VERSIONS.map(version => new Client(server, 'renamed', { version }))
  for (const client of clients) await client.whenSynced()
  clients.forEach((client, index) => client.insertText(0, `{before ${index}}`))
  await converged(clients, 60_000)
  let name = 0
  const renamed = await campaign({
    server, cluster, page: 'renamed', random, once: () => post(server, 'renamed/rename', { pageId: `renamed-${name++}` })
  })
  clients.forEach((client, index) => client.insertText(0, `{after ${index}}`))
  const content = await converged(clients, 60_000)
  assert.deepEqual(wrong(content.text, renamed.writers), [])
  for (const when of ['before', 'after']) {
    clients.forEach((_, index) => assert.equal(content.text.split(`{${when} ${index}}`).length, 2, `${when} ${index}`))
  }
  await whenStored(server, 'renamed', content)
  for (const client of clients) client.dispose()

  // Of a page that is compacted everybody begins anew with what is there.
  const { counted, writers } = await campaign({
    server, cluster, page: 'compacted', random, once: () => post(server, 'compacted/compact')
  })
  assert.ok(counted.beginnings > ROUNDS * WRITERS, 'documents were refused')
  const newcomers = VERSIONS.map(version => new Client(server, 'compacted', { version }))
  for (const client of newcomers) await client.whenSynced()
  newcomers.forEach((client, index) => client.insertText(0, `{new ${index}}`))
  const last = await converged(newcomers, 60_000)
  assert.deepEqual(wrong(last.text, writers), [])
  await whenStored(server, 'compacted', last)
  for (const client of newcomers) client.dispose()
}

test(`${ROUNDS} kills while a page is renamed, and compacted, on SQLite`, async t => {
  const server = await Server.start()
  t.after(() => server.dispose())
  await campaigns(t, server)
})

test(`${ROUNDS} kills while a page is renamed, and compacted, on PostgreSQL`, {
  skip: POSTGRES_BIN ? false : 'SKIPPED: no PostgreSQL (PAGEROOM_TEST_POSTGRES_BIN is not set)'
}, async t => {
  const cluster = await Cluster.start()
  t.after(() => cluster.dispose())
  const server = await Server.start({ databaseUrl: cluster.url })
  t.after(() => server.dispose())
  await campaigns(t, server, cluster)
})
