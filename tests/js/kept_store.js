// Writes tests/vectors/kept_store: a store as the version wrote it that kept pages as documents of a library, before they were
// structs, and what real Yjs found in each of its pages. tests/it/kept_store.rs and kept_store.test.js open it.
//
//   git worktree add --detach ../before 7730618
//   (cd ../before && cargo build --locked --bin pageroom)
//   PAGEROOM_BIN=../before/target/debug/pageroom PAGEROOM_TEST_POSTGRES_BIN=/usr/lib/postgresql/15/bin \
//     PAGEROOM_TEST_WITHOUT=undefined,bigint,minus-zero,numbers,bytes,halves,deep,subdocuments,json,hooks,doubles,key-order \
//     node tests/js/kept_store.js tests/vectors/kept_store
//
// Both kinds of store hold the same pages: some whose snapshot covers all, some with rows after it, and some that are rows only,
// because the server was killed before it wrote a snapshot.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { gzipSync } from 'node:zlib'

import * as Y from 'yjs'

import { Client, disposeClients } from './support/clients.js'
import { generate } from './support/generator.js'
import { Cluster, POSTGRES_BIN } from './support/postgres.js'
import { RawClient, disposeRawClients, hex, syncStep1, syncUpdate } from './support/raw.js'
import { Server } from './support/server.js'
import { documentOf, documentWritten, sayable } from './support/structs.js'
import { JWT_SECRET, tokenFor } from './support/tokens.js'
import { until } from './support/wait.js'

const out = process.argv[2]
if (!out) throw new Error('usage: node kept_store.js FOLDER')

const everything = { params: { token: tokenFor('writer', { '*': 'edit' }) } }
const call = async (server, path, init, status = 200) => {
  const response = await server.api(path, init)
  assert.equal(response.status, status, `${path}: ${await response.clone().text()}`)
  return response.headers.get('content-type')?.includes('json') ? response.json() : undefined
}

/** Two or more people with the real provider, who write and hear each other. */
async function together (server, page, clientIds, write) {
  const clients = []
  for (const clientId of clientIds) clients.push(await new Client(server, page, { clientId, ...everything }).whenSynced())
  const agree = () => until('they agree', () => clients.every(({ doc }) => same(doc, clients[0].doc)))
  await write(clients.map(({ doc }) => doc), agree)
  await agree()
  for (const client of clients) client.dispose()
}

const same = (one, other) => Buffer.compare(Y.encodeStateAsUpdate(one), Y.encodeStateAsUpdate(other)) === 0 ||
  documentWritten(one) === documentWritten(other)

const shared = {
  async text (server, page, ids) {
    await together(server, page, ids, async ([ada, bob], agree) => {
      const [text, other] = [ada.getText('text'), bob.getText('text')]
      text.insert(0, 'Once upon a time 😀 in 日本.\n')
      await agree()
      other.format(5, 4, { bold: true })
      other.insert(0, 'Title\n', { heading: 1 })
      text.insert(text.length, 'The end', { italic: true, color: 'red' })
      await agree()
      text.insertEmbed(3, { image: 'https://example.com/a.png', width: 12.5 })
      other.delete(8, 6)
      await agree()
      // Both at the same place at once.
      text.insert(4, 'from Ada')
      other.insert(4, 'from Bob')
      await agree()
      text.format(0, 12, { bold: null, link: { href: 'https://example.com/' } })
    })
  },
  async map (server, page, ids) {
    await together(server, page, ids, async ([ada, bob], agree) => {
      const [map, other] = [ada.getMap('map'), bob.getMap('map')]
      map.set('title', 'a page')
      map.set('numbers', [0, 1, -7, 2.5, 1e300, 9007199254740991])
      map.set('nested', new Y.Map([['list', Y.Array.from([1, 'two', new Y.Text('three')])], ['gone', true]]))
      await agree()
      for (let round = 0; round < 40; round++) (round % 2 ? map : other).set('counter', round)
      map.set('both', 'of Ada')
      other.set('both', 'of Bob')
      other.get('nested').delete('gone')
      await agree()
      map.set('replaced', new Y.Map([['inner', new Y.Array()]]))
      await agree()
      other.get('replaced').get('inner').push([1, 2, 3])
      await agree()
      map.set('replaced', 'by a word')
      map.delete('title')
      map.set('日本', { deep: [{ er: null }] })
    })
  },
  async array (server, page, ids) {
    await together(server, page, ids, async ([ada, bob], agree) => {
      const [list, other] = [ada.getArray('array'), bob.getArray('array')]
      list.push([1, true, null, 'word', { a: [1] }])
      await agree()
      other.insert(2, [Uint8Array.of(0, 255, 7), new Y.Map([['x', 1]])])
      list.delete(0, 2)
      await agree()
      list.get(1).set('y', [new Y.Text('no'), 2].length)
      list.insert(1, [Y.Array.from(['inner', Y.Array.from([1])])])
      await agree()
      other.delete(3, 1)
      other.push(Array.from({ length: 300 }, (_, index) => index))
      await agree()
      list.delete(20, 100)
    })
  },
  async xml (server, page, ids) {
    await together(server, page, ids, async ([ada, bob], agree) => {
      const [root, other] = [ada.getXmlFragment('xml'), bob.getXmlFragment('xml')]
      const paragraph = new Y.XmlElement('paragraph')
      paragraph.setAttribute('align', 'left')
      paragraph.insert(0, [new Y.XmlText('Hello wörld')])
      root.insert(0, [paragraph, new Y.XmlElement('rule')])
      await agree()
      other.get(0).get(0).format(0, 5, { strong: {} })
      const list = new Y.XmlElement('list')
      list.insert(0, [new Y.XmlElement('item'), new Y.XmlElement('item')])
      other.insert(1, [list])
      await agree()
      root.get(1).get(0).insert(0, [new Y.XmlText('first')])
      root.get(0).setAttribute('align', 'right')
      other.delete(2, 1)
      await agree()
      other.get(1).delete(1, 1)
      other.get(0).get(0).insert(5, ' dear', { em: {} })
    })
  },
  async many (server, page, ids) {
    await together(server, page, ids, async (docs, agree) => {
      for (let round = 0; round < 4; round++) {
        docs.forEach((doc, index) => {
          const text = doc.getText('text')
          text.insert(Math.floor(text.length * index / docs.length), `${index}.${round} `)
          doc.getMap('map').set(`key${index % 3}`, `${index}.${round}`)
          if (round === 2 && text.length > 6) text.delete(index, 3)
        })
        await agree()
      }
    })
  }
}

const IDS = { text: [101, 102], map: [201, 202], array: [301, 302], xml: [401, 402], many: [501, 502, 503, 504, 505, 506, 507, 508] }

/** What the server gives to somebody who has nothing, by a client that collects no garbage of its own. */
async function asked (server, page) {
  const raw = await RawClient.connect(server, page, everything)
  raw.send(syncStep1(hex('00')))
  const { body } = await raw.next('step2')
  raw.dispose()
  return body
}

async function brought (server, page, authors) {
  for (const { updates } of authors) {
    const raw = await RawClient.connect(server, page, everything)
    for (const update of updates) raw.send(syncUpdate(update))
    // Refused, where this version did not take it.
    const taken = await Promise.race([raw.settle(), raw.closed.then(() => null)])
    raw.dispose()
    if (!taken) return false
  }
  const doc = documentOf(await asked(server, page))
  const written = documentOf(...authors.flatMap(({ updates }) => updates))
  return documentWritten(doc) === documentWritten(written)
}

const appended = (server, page, clientId, text) => together(server, page, [clientId], async ([doc]) => {
  for (const letter of text) {
    doc.getText('text').insert(doc.getText('text').length, letter)
    await new Promise(resolve => setTimeout(resolve, 5))
  }
})

/** Fills a store; gives what Yjs finds in each page. */
async function fill (databaseUrl, wasKilled) {
  const env = { JWT_SECRET, PAGEROOM_SNAPSHOT_INTERVAL_SECONDS: '1', PAGEROOM_ROOM_IDLE_SECONDS: '0', PAGEROOM_MAX_UPDATES_PER_SECOND: '0' }
  let server = await Server.start({ databaseUrl, env })
  const pages = []
  const left = []
  for (const [name, write] of Object.entries(shared)) {
    await write(server, `kept/${name}`, IDS[name])
    pages.push(`kept/${name}`)
  }
  // Of every kind that this version took and kept as it was written.
  for (let seed = 1; pages.length < 13 && seed < 60; seed++) {
    const { authors } = generate(seed)
    const page = `kept/generated-${seed}`
    if (await brought(server, page, authors).catch(() => false)) pages.push(page)
    else left.push(page)
  }
  await appended(server, 'kept/trashed', 601, 'in the trash')
  await appended(server, 'kept/both', 602, 'covered by a snapshot, ')
  const grant = (place, role) => call(server, `/api/pages/${place}`, {
    method: 'PUT', headers: { 'content-type': 'application/json' }, body: JSON.stringify(role)
  })
  await grant('kept%2Ftext/permissions/ann', { role: 'view' })
  await grant('kept%2Fmap/permissions/*', { role: 'comment' })
  await grant('kept%2F*/permissions/bea', { role: 'edit' })
  await grant('kept%2Fxml/permissions/late', { role: 'edit', expiresAt: '2090-01-01T00:00:00Z' })
  await call(server, '/api/users/left/sign-out', { method: 'POST' })
  await call(server, '/api/users/left/sign-out', { method: 'POST' })
  await call(server, '/api/users/mallory/block', { method: 'PUT' }, 204)
  const trashed = await asked(server, 'kept/trashed')
  assert.equal((await server.stop()).code, 0)

  // No snapshot from here on: the process dies first.
  server.env.PAGEROOM_SNAPSHOT_INTERVAL_SECONDS = '86400'
  server.env.PAGEROOM_ROOM_IDLE_SECONDS = '86400'
  await server.launch()
  await appended(server, 'kept/both', 603, 'and rows')
  await together(server, 'kept/many', [701, 702], async ([one, other], agree) => {
    await agree()
    one.getText('text').delete(3, 20)
    other.getText('text').insert(10, 'later')
    other.getMap('map').set('key1', new Y.Map([['late', true]]))
  })
  await shared.map(server, 'kept/rows', [801, 802])
  pages.push('kept/both', 'kept/rows')
  const expected = []
  for (const page of pages) {
    const state = await asked(server, page)
    expected.push({ page, ...described(state, page.includes('generated')), record: await call(server, `/api/pages/${encodeURIComponent(page)}`) })
  }
  const record = await call(server, '/api/pages/kept%2Ftrashed')
  expected.push({ page: 'kept/trashed', isTrashed: true, ...described(trashed), record })
  await call(server, '/api/pages/kept%2Ftrashed', { method: 'DELETE' }, 204)
  const audit = await call(server, '/api/audit?limit=1000')
  await server.kill()
  disposeClients()
  disposeRawClients()
  await wasKilled(server)
  await server.dispose()
  console.log(`${databaseUrl ?? 'SQLite'}: ${pages.length + 1} pages; not kept as they were written: ${left.join(', ') || 'none'}`)
  return { pages: expected.sort((a, b) => a.page < b.page ? -1 : 1), actions: [...new Set(audit.entries.map(({ action }) => action))].sort() }
}

/** What Yjs finds in a page: its state, and the roots that JSON can say. */
function described (state, isGenerated) {
  const doc = new Y.Doc({ guid: 'page' })
  const names = new Set()
  for (const { parent } of Y.decodeUpdate(state).structs) if (typeof parent === 'string') names.add(parent)
  Y.applyUpdate(doc, state)
  assert.equal(doc.store.pendingStructs, null)
  // What the generator makes has numbers that JSON writes in several ways; equality.test.js looks at those.
  const json = Object.fromEntries(Object.entries(isGenerated ? {} : sayable(doc)).filter(([name]) => names.has(name)))
  return { state: Buffer.from(Y.encodeStateAsUpdate(doc)).toString('base64'), json }
}

mkdirSync(out, { recursive: true })
const keep = (name, bytes) => writeFileSync(join(out, name), gzipSync(bytes, { level: 9 }))

const sqlite = await fill(undefined, async server => {
  const path = server.databaseUrl.replace('sqlite://', '')
  // Whoever closes the file last puts the log into it.
  await server.command('migrate')
  assert.ok(!existsSync(`${path}-wal`), 'nothing is left beside the file')
  keep('sqlite.db.gz', readFileSync(path))
})
assert.ok(POSTGRES_BIN, 'PAGEROOM_TEST_POSTGRES_BIN names the folder of pg_dump')
const cluster = await Cluster.start()
const postgres = await fill(cluster.url, async () => {
  const dump = await promisify(execFile)(join(POSTGRES_BIN, 'pg_dump'),
    ['--no-owner', '--no-privileges', '--inserts', '--schema=public', cluster.url], { maxBuffer: 1 << 28 })
  // Into any schema, by any client.
  const lines = dump.stdout.split('\n').filter(line => !/^(--|\\|SET |SELECT pg_catalog.set_config|CREATE SCHEMA|COMMENT ON SCHEMA|$)/.test(line))
  keep('postgres.sql.gz', lines.join('\n').replaceAll('public.', ''))
})
await cluster.dispose()
keep('pages.json.gz', JSON.stringify({ sqlite, postgres }))
