// The store goes away under people who type: editing goes on, nothing is acknowledged, and everything is stored later.

import { describe, test, after, afterEach, before } from 'node:test'
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir, userInfo } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'

import * as Y from 'yjs'

import { CONFIRMING, Client, disposeClients } from './support/clients.js'
import { contentOfUpdate } from './support/content.js'
import { Cluster, POSTGRES_BIN, serverOnFreshDatabase, sql } from './support/postgres.js'
import { RawClient, disposeRawClients, hex, syncStep1, syncUpdate } from './support/raw.js'
import { Server } from './support/server.js'
import { freshPage } from './support/suite.js'
import { holdsFor, until } from './support/wait.js'

const run = promisify(execFile)

/** Long enough to be sure that no acknowledgement is coming. */
const NO_ACKNOWLEDGEMENT_MS = 3_000

afterEach(() => { disposeClients(); disposeRawClients() })

const textOf = async (server, page) => contentOfUpdate(await server.snapshot(page)).text

/** A raw author on a page, whose acknowledgements can be waited for. */
async function author (server, page, clientId) {
  const raw = await RawClient.connect(server, page)
  await raw.settle()
  raw.messages = []
  const doc = new Y.Doc()
  doc.clientID = clientId
  doc.on('update', update => raw.send(syncUpdate(update)))
  let acknowledged = 0
  raw.onMessage = message => {
    if (message.kind !== 'update') return
    for (const { id, length } of Y.decodeUpdate(message.body).structs) {
      if (id.client === clientId) acknowledged = Math.max(acknowledged, id.clock + length)
    }
  }
  return {
    raw,
    type (text) { doc.getText('text').insert(doc.getText('text').length, text) },
    get acknowledged () { return acknowledged },
    get allAcknowledged () { return acknowledged === Y.getState(doc.store, clientId) }
  }
}

describe('PostgreSQL', {
  skip: POSTGRES_BIN ? false : 'SKIPPED: no PostgreSQL (PAGEROOM_TEST_POSTGRES_BIN is not set)'
}, () => {
  let cluster
  before(async () => { cluster = await Cluster.start() })
  after(() => cluster.dispose())

  test('stopped at once in the middle of typing and started again', async t => {
    const { server } = await serverOnFreshDatabase(t, cluster)
    const page = freshPage('outage')
    const stored = freshPage('stored')
    const before = await author(server, stored, 7)
    before.type('stored before')
    await until('the first page is stored', () => before.allAcknowledged)
    // After a restart that page is in the store only.
    await server.restart()

    const ada = await new Client(server, page, { version: CONFIRMING }).whenSynced()
    const ben = await new Client(server, page).whenSynced()
    const cleo = await author(server, page, 8)
    ada.insertText(0, 'before ')
    cleo.type('cleo ')
    await until('all is well', () => cleo.allAcknowledged && ada.provider.syncStatus.status === 'green')

    // In the middle of typing.
    const typing = setInterval(() => ada.insertText(ada.textLength, '.'), 3)
    t.after(() => clearInterval(typing))
    const length = ada.textLength
    await until('Ada is typing', () => ada.textLength > length + 20)
    await cluster.down()
    await until('readiness goes red', async () => (await server.readiness()) === 503)
    clearInterval(typing)

    ada.insertText(0, 'during ')
    await until('editing goes on between the clients', () => ben.text.startsWith('during '))
    cleo.type('unstored ')
    const acknowledged = cleo.acknowledged
    await holdsFor('nothing is acknowledged', NO_ACKNOWLEDGEMENT_MS, () =>
      cleo.acknowledged === acknowledged && ada.provider.syncStatus.status !== 'green')
    const dan = await new Client(server, page).whenSynced()
    await until('who joins meanwhile is served from memory', () => dan.text === ben.text && dan.text.includes('unstored'))

    const eve = new Client(server, stored)
    await until('a page that cannot be loaded is refused for now',
      () => eve.closes.some(close => close?.code === 1013), 30_000)
    assert.equal(eve.synced, false)
    eve.insertText(0, 'new ')

    await cluster.up()
    await until('readiness comes back', async () => (await server.readiness()) === 200, 30_000)
    await until('everything is acknowledged', () => cleo.allAcknowledged && ada.provider.syncStatus.status === 'green', 30_000)
    await until(() => `the other page is there with what it had: ${eve.text}`, () =>
      eve.textLength === 17 && eve.text.includes('new ') && eve.text.includes('stored before'), 30_000)
    await until('and with what was added', async () => (await textOf(server, stored)) === eve.text)
    const { text } = ada
    await server.kill()
    await server.launch()
    assert.equal(await textOf(server, page), text)
  })

  test('a store that hangs: others get edits at once, the author no acknowledgement until it answers', async t => {
    const { server, url } = await serverOnFreshDatabase(t, cluster)
    const page = freshPage('hangs')
    const ada = await author(server, page, 21)
    ada.type('first ')
    await until('the first edit is stored', () => ada.allAcknowledged)
    const ben = await new Client(server, page).whenSynced()
    const unlock = await cluster.lockTables(url)
    ada.type('second ')
    await until('Ben has it at once', () => ben.text === 'first second ', 2_000)
    const acknowledged = ada.acknowledged
    await holdsFor('Ada has no acknowledgement', 1_000, () => ada.acknowledged === acknowledged)
    await unlock()
    await until('now she has', () => ada.allAcknowledged)
    assert.equal(await textOf(server, page), 'first second ')
  })

  test('a store call that fails in between costs no acknowledgement', async t => {
    const { server, url } = await serverOnFreshDatabase(t, cluster)
    const page = freshPage('hiccup')
    const ada = await author(server, page, 31)
    for (let i = 0; i < 10; i++) {
      ada.type(`word${i} `)
      await sql(cluster.url,
        `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '${new URL(url).pathname.slice(1)}'`)
      ada.type(`more${i} `)
    }
    await until('every edit is acknowledged', () => ada.allAcknowledged, 30_000)
    await until('ready again', async () => (await server.readiness()) === 200)
    const expected = Array.from({ length: 10 }, (_, i) => `word${i} more${i} `).join('')
    await server.kill()
    await server.launch()
    assert.equal(await textOf(server, page), expected)
  })

  test('two who join while the page loads slowly meet in one document', async t => {
    const { server, url } = await serverOnFreshDatabase(t, cluster)
    const page = freshPage('slow-load')
    const before = await author(server, page, 41)
    before.type('old ')
    await until('stored', () => before.allAcknowledged)
    await server.kill()
    await server.launch()
    const unlock = await cluster.lockTables(url)
    const ada = new Client(server, page)
    const ben = new Client(server, page)
    ada.insertText(0, 'ada ')
    ben.insertText(0, 'ben ')
    await until('both sockets are open', () => ada.statuses.includes('connected') && ben.statuses.includes('connected'))
    await unlock()
    // While it cannot be found out whether a page was deleted, nobody enters: who comes by itself comes again.
    const cleo = new RawClient(server, page)
    await cleo.whenOpen()
    await until('both have everything', () => [ada, ben].every(({ text }) =>
      text.length === 12 && ['old ', 'ada ', 'ben '].every(part => text.includes(part))))
    assert.equal(ada.text, ben.text)
    cleo.send(syncStep1(hex('00')))
    await cleo.next('step2')
    ben.insertText(0, 'live ')
    await until('edits still travel', () => ada.text.startsWith('live '))
    await until('the store has one document', async () => (await textOf(server, page)) === ada.text)
  })

  test('asked to stop while the store is down, the server ends within its deadline', async t => {
    const { server } = await serverOnFreshDatabase(t, cluster, { PAGEROOM_SHUTDOWN_DEADLINE_SECONDS: '3' })
    const page = freshPage('stop')
    const ada = await new Client(server, page).whenSynced()
    ada.insertText(0, 'stored')
    await until('stored', async () => (await textOf(server, page).catch(() => '')) === 'stored')
    await cluster.down()
    ada.insertText(0, 'unstored ')
    await until('readiness goes red', async () => (await server.readiness()) === 503)
    const { elapsedMs, signal } = await server.stop(20_000)
    assert.equal(signal, null)
    assert.ok(elapsedMs < 6_000, `took ${Math.round(elapsedMs)} ms`)
    await until('Ada is told to come back', () => ada.closes.some(close => close?.code === 1012))
    await cluster.up()
    await server.launch()
    await until('Ada brings what was not stored', async () =>
      (await textOf(server, page).catch(() => '')) === 'unstored stored', 20_000)
  })
})

test('SQLite on a full disk: editing goes on, nothing is acknowledged, all is stored when there is room', async t => {
  if (userInfo().uid !== 0) return t.skip('SKIPPED: mounting a small file system needs root')
  const directory = mkdtempSync(join(tmpdir(), 'pageroom-full-'))
  try {
    await run('mount', ['-t', 'tmpfs', '-o', 'size=3m', 'pageroom-test', directory])
  } catch (error) {
    rmSync(directory, { recursive: true })
    return t.skip(`SKIPPED: this system does not let us mount a small file system: ${error.stderr}`)
  }
  let server
  t.after(async () => {
    await server?.dispose()
    await run('umount', ['-l', directory])
    rmSync(directory, { recursive: true })
  })
  server = await Server.start({ databaseUrl: `sqlite://${join(directory, 'pages.db')}` })
  const page = freshPage('full')
  const ada = await author(server, page, 51)
  const ben = await new Client(server, page).whenSynced()
  ada.type('fits ')
  await until('stored', () => ada.allAcknowledged)

  const ballast = join(directory, 'ballast')
  assert.throws(() => writeFileSync(ballast, Buffer.alloc(8 << 20)), { code: 'ENOSPC' })
  ada.type('x'.repeat(200_000))
  ada.type(' too much')
  await until('Ben has it', () => ben.text.endsWith(' too much'))
  await until('readiness goes red', async () => (await server.readiness()) === 503)
  const acknowledged = ada.acknowledged
  await holdsFor('nothing is acknowledged', NO_ACKNOWLEDGEMENT_MS, () => ada.acknowledged === acknowledged)
  assert.match(server.log(), /full/i, 'the log says what is wrong')
  assert.ok(!server.log().includes('too much'), 'and nothing of the content')

  rmSync(ballast)
  await until('everything is acknowledged', () => ada.allAcknowledged, 30_000)
  await until('readiness comes back', async () => (await server.readiness()) === 200)
  await server.kill()
  await server.launch()
  assert.equal(await textOf(server, page), ben.text)
})
