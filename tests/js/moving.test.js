// Documents of other servers come in as they are: from y-websocket's LevelDB, by the script that is shipped, and in either encoding of Yjs.

import { test } from 'node:test'
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

import * as buffer from 'lib0/buffer'
import { LeveldbPersistence } from 'y-leveldb'
import * as Y from 'yjs'

import { POSTGRES_URL, dropDatabase, freshDatabase, sql } from './support/postgres.js'
import { binary } from './support/server.js'

const run = promisify(execFile)
const here = fileURLToPath(new URL('.', import.meta.url))

function folderFor (t) {
  const folder = mkdtempSync(join(tmpdir(), 'pageroom-moving-'))
  t.after(() => rmSync(folder, { recursive: true }))
  const env = { ...process.env, DATABASE_URL: `sqlite://${join(folder, 'pages.db')}` }
  return { folder, pageroom: (...args) => run(binary(), args, { env }) }
}

function written (...texts) {
  const document = new Y.Doc()
  for (const text of texts) document.getText('content').insert(document.getText('content').length, text)
  return document
}

test('documents of a y-websocket server with LevelDB', async t => {
  const { folder, pageroom } = folderFor(t)
  const persistence = new LeveldbPersistence(join(folder, 'db'))
  const names = ['notes', 'team/plan', 'Grüße 👋']
  const outside = ['../outside', 'team/../../outside', '/outside', 'team//plan']
  for (const name of [...names, ...outside]) {
    const document = new Y.Doc()
    const updates = []
    document.on('update', update => updates.push(update))
    for (const text of [name, ' and', ' more']) document.getText('content').insert(document.getText('content').length, text)
    for (const update of updates) await persistence.storeUpdate(name, update)
  }
  await persistence.destroy()
  // Where its packages are.
  const script = join(here, `.export-${process.pid}.mjs`)
  copyFileSync(join(here, '../../deploy/export-y-leveldb.mjs'), script)
  t.after(() => rmSync(script))
  const { stderr: leftOut } = await run(process.execPath, [script, join(folder, 'db'), join(folder, 'documents')])
  assert.equal(leftOut.match(/left out/g)?.length, outside.length, leftOut)
  assert.equal(existsSync(join(folder, 'outside.update')), false)
  const { stderr } = await pageroom('import', join(folder, 'documents'))
  assert.match(stderr, /^3 new, 0 merged, 0 there already, 0 refused/)
  for (const name of names) {
    const { stdout } = await pageroom('export', name, '--format', 'text')
    assert.equal(stdout, `${name} and more`)
  }
})

test('updates in either encoding of Yjs, with content of every kind', async t => {
  const { folder, pageroom } = folderFor(t)
  const documents = join(folder, 'documents')
  mkdirSync(documents)
  const document = written('Grüße 👋', ' and more')
  document.getText('content').delete(2, 3)
  document.getText('content').format(0, 2, { bold: true })
  document.getMap('meta').set('list', [1, -0.5, null, { deep: [true, 'x'] }])
  document.getArray('rows').push([new Y.Map([['id', 'r']]), new Uint8Array([1, 2])])
  const paragraph = new Y.XmlElement('p')
  document.getXmlFragment('default').insert(0, [paragraph])
  paragraph.setAttribute('class', 'x')
  paragraph.insert(0, [new Y.XmlText('inside')])
  writeFileSync(join(documents, 'first.update'), Y.encodeStateAsUpdate(document))
  writeFileSync(join(documents, 'second.update'), Y.encodeStateAsUpdateV2(document))
  writeFileSync(join(documents, 'empty.update'), Y.encodeStateAsUpdateV2(new Y.Doc()))
  const { stderr } = await pageroom('import', documents)
  assert.match(stderr, /^3 new, 0 merged, 0 there already, 0 refused/)
  for (const page of ['first', 'second']) {
    await pageroom('export', page, '--output', join(folder, page))
    const copy = new Y.Doc()
    Y.applyUpdate(copy, readFileSync(join(folder, page)))
    for (const [name, kind] of [['content', Y.Text], ['meta', Y.Map], ['rows', Y.Array]]) {
      assert.deepEqual(copy.get(name, kind).toJSON(), document.get(name, kind).toJSON(), `${page}: ${name}`)
    }
    assert.deepEqual(copy.getText('content').toDelta(), document.getText('content').toDelta())
    assert.equal(copy.getXmlFragment('default').toString(), document.getXmlFragment('default').toString())
  }
})

/** The tables that y/hub's own initialisation makes: before documents could be deleted, and since. */
const YHUB = `CREATE TABLE yhub_ydoc_v1 (
  org text, docid text, branch text, t text, created int8, gcDoc bytea, nongcDoc bytea, contentmap bytea, contentids bytea,
  PRIMARY KEY (org, docid, branch, t))`
const YHUB_SINCE_0_6 = `${['gcDoc', 'nongcDoc', 'contentmap', 'contentids'].map(column =>
  `ALTER TABLE yhub_ydoc_v1 ADD COLUMN ${column}_is_reference boolean NOT NULL DEFAULT true`).join('; ')};
  CREATE TABLE yhub_ydoc_tombstones_v1 (
    org text, docid text, branch text, deleted_at int8 NOT NULL, hard boolean NOT NULL, purged_at int8, by text,
    PRIMARY KEY (org, docid, branch))`

const without = POSTGRES_URL ? false : 'SKIPPED: no PostgreSQL (PAGEROOM_TEST_DATABASE_URL is not set)'

test('rows of y/hub', { skip: without }, async t => {
  const { folder, pageroom } = folderFor(t)
  const url = await freshDatabase()
  t.after(() => dropDatabase(url))
  let clock = 1_700_000_000_000
  const text = value => `'${value.replaceAll("'", "''")}'`
  const store = (org, docid, branch, asset) => {
    const bytes = `'\\x${Buffer.from(buffer.encodeAny(asset)).toString('hex')}'`
    return sql(url, `INSERT INTO yhub_ydoc_v1 (org, docid, branch, t, created, gcDoc, nongcDoc)
      VALUES (${[org, docid, branch, `${++clock}-0`].map(text)}, ${clock}, ${bytes}, ${bytes})`)
  }
  const inline = document => ({ type: 'asset:ydoc:v1', update: Y.encodeStateAsUpdate(document) })
  await sql(url, YHUB)

  // Two workers have stored one document, each what the other did not have.
  const first = written('Grüße 👋')
  const second = written()
  Y.applyUpdate(second, Y.encodeStateAsUpdate(first))
  second.getText('content').insert(second.getText('content').length, ' and more')
  await store('acme', 'notes', 'main', inline(first))
  await store('acme', 'notes', 'main', inline(second))
  await store('acme', 'team%2Fplan', 'main', inline(written('a plan')))
  await store('other', 'notes', 'main', inline(written('of others')))
  await store('acme', 'notes', 'draft', inline(written('a draft')))
  const early = await pageroom('import', '--yhub', url)
  assert.match(early.stderr, /^4 new, 1 merged, 0 there already, 0 refused/)
  assert.match(early.stderr, /Redis/)

  await sql(url, YHUB_SINCE_0_6)
  await store('acme', 'binned', 'main', inline(written('in the trash')))
  await store('acme', 'erased', 'main', inline(written('not for anybody')))
  await sql(url, `INSERT INTO yhub_ydoc_tombstones_v1 VALUES
    ('acme', 'binned', 'main', 1700000000123, false, NULL, 'ada'), ('acme', 'erased', 'main', 1700000000123, true, NULL, 'ada')`)
  await store('acme', 'large', 'main', { type: 'asset:retrievable:v1', plugin: 'S3Persistence:v1' })
  await store('acme', 'future', 'main', { type: 'asset:ydoc:v9', update: new Uint8Array([1]) })
  await store('acme/team', 'plan', 'main', inline(written('another plan')))
  const late = await pageroom('import', '--yhub', url).catch(error => error)
  assert.equal(late.code, 1)
  assert.match(late.stderr, /^1 new, 0 merged, 5 there already, 3 refused/m)
  assert.match(late.stderr, /"acme\/large" was not imported: .*S3Persistence:v1/)
  assert.match(late.stderr, /"acme\/future" was not imported: .*asset:ydoc:v9/)
  assert.match(late.stderr, /"acme\/team\/plan" was not imported: it could not be told from another one: its organisation/)

  const expected = {
    'acme/notes': 'Grüße 👋 and more',
    'acme/team/plan': 'a plan',
    'other/notes': 'of others',
    'acme/notes#draft': 'a draft'
  }
  for (const [page, content] of Object.entries(expected)) {
    const { stdout } = await pageroom('export', page, '--format', 'text')
    assert.equal(stdout, content, page)
  }
  const archive = join(folder, 'pages.tar')
  await pageroom('export-all', archive)
  const { stdout: binned } = await run('tar', ['-xOf', archive, '--wildcards', '*.json'])
  assert.match(binned, /"pageId":"acme\/binned"[^}]*"deletedAt":"2023-11-14T22:13:20\.123Z"/)
  assert.doesNotMatch(binned, /erased|large|future/)
})

test('a folder is not read as tables', async t => {
  const { folder, pageroom } = folderFor(t)
  for (const flags of [['--yhub'], ['--query', 'SELECT 1']]) {
    const refused = await pageroom('import', folder, ...flags).catch(error => error)
    assert.match(refused.stderr, /is no database/)
  }
})
