// A store of the version before (see kept_store.js) to real Yjs: every struct of every page as it was when it was written, and
// after new edits and a restart.

import { test, after } from 'node:test'
import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gunzipSync } from 'node:zlib'

import * as Y from 'yjs'

import { Client, disposeClients } from './support/clients.js'
import { Server } from './support/server.js'
import { documentOf, documentWritten } from './support/structs.js'
import { until } from './support/wait.js'

const kept = name => gunzipSync(readFileSync(new URL(`../vectors/kept_store/${name}`, import.meta.url)))

after(disposeClients)

test('real Yjs finds every page as it was written, edits it, and finds it again after a restart', async t => {
  const directory = mkdtempSync(join(tmpdir(), 'pageroom-kept-'))
  t.after(() => rmSync(directory, { recursive: true, force: true }))
  writeFileSync(join(directory, 'pages.db'), kept('sqlite.db.gz'))
  const server = await Server.start({ databaseUrl: `sqlite://${join(directory, 'pages.db')}` })
  t.after(() => server.dispose())
  const { pages } = JSON.parse(kept('pages.json.gz')).sqlite
  const there = pages.filter(({ isTrashed }) => !isTrashed)
  assert.ok(there.length > 12)

  const edited = new Map()
  for (const { page, state } of there) {
    const before = documentWritten(documentOf(Buffer.from(state, 'base64')))
    assert.equal(documentWritten(documentOf(await server.snapshot(page))), before, page)
    const client = await new Client(server, page).whenSynced()
    client.doc.getText('text').insert(0, 'today ')
    client.doc.getMap('map').set('today', new Y.Map([['in', 'it']]))
    client.doc.getXmlFragment('xml').push([new Y.XmlElement('today')])
    await until(`${page} has the edits`, async () =>
      documentWritten(documentOf(await server.snapshot(page))) === documentWritten(documentOf(Y.encodeStateAsUpdate(client.doc))))
    edited.set(page, documentWritten(client.doc))
    client.dispose()
  }
  await server.restart()
  for (const [page, written] of edited) assert.equal(documentWritten(documentOf(await server.snapshot(page))), written, page)
})
