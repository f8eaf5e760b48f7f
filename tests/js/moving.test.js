// Documents of other servers come in as they are: from y-websocket's LevelDB, by the script that is shipped, and in either encoding of Yjs.

import { test } from 'node:test'
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

import { LeveldbPersistence } from 'y-leveldb'
import * as Y from 'yjs'

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
