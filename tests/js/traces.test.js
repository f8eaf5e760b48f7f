// Recorded editing sessions of real people, replayed through real sockets, end in exactly the recorded text.

import { test } from 'node:test'
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { gunzipSync } from 'node:zlib'

import * as Y from 'yjs'

import { contentOfUpdate } from './support/content.js'
import { RawClient, disposeRawClients, syncUpdate } from './support/raw.js'
import { freshPage, serverForFile } from './support/suite.js'
import { until, within } from './support/wait.js'

// Replayed much faster than anybody types, so the limit on how fast one may type has to go.
const server = serverForFile({ env: { PAGEROOM_MAX_UPDATES_PER_SECOND: '0' } })

const load = name => JSON.parse(gunzipSync(readFileSync(new URL(`../traces/${name}.json.gz`, import.meta.url))))

/** Bytes that may wait in a socket before the replay pauses. */
const MAX_BUFFERED = 1 << 20

/** One author of a trace: a document of one's own, and a socket. */
class Author {
  static async join (page, clientId) {
    const author = new Author()
    author.doc = new Y.Doc()
    author.doc.clientID = clientId
    author.text = author.doc.getText('text')
    author.doc.on('update', update => { author.update = update })
    author.seen = new Map()
    author.wake = () => {}
    author.raw = await RawClient.connect(server(), page)
    await author.raw.settle()
    author.raw.onMessage = message => author.heard(message)
    return author
  }

  get clientId () { return this.doc.clientID }
  get clock () { return Y.getState(this.doc.store, this.clientId) }

  heard (message) {
    if (message.kind === 'step2') return
    this.raw.messages.length = 0
    if (message.kind !== 'update') return
    for (const { id, length } of Y.decodeUpdate(message.body).structs) {
      this.seen.set(id.client, Math.max(this.seen.get(id.client) ?? 0, id.clock + length))
    }
    this.wake()
  }

  /** Waits until the server has passed on somebody's content up to a clock. */
  async hasSeen (clientId, clock) {
    while ((this.seen.get(clientId) ?? 0) < clock) await new Promise(resolve => { this.wake = resolve })
  }

  /** Makes the edits of one transaction, sends them, and gives the update. */
  edit (patches) {
    this.update = undefined
    this.doc.transact(() => {
      for (const [position, deleted, inserted] of patches) {
        if (deleted > 0) this.text.delete(position, deleted)
        if (inserted !== '') this.text.insert(position, inserted)
      }
    }, this)
    const { update } = this
    if (update) this.raw.send(syncUpdate(update))
    return update
  }

  async breathe () {
    await new Promise(resolve => setImmediate(resolve))
    while (this.raw.socket.bufferedAmount > MAX_BUFFERED) await new Promise(resolve => setTimeout(resolve, 1))
  }
}

async function assertEndsIn (page, authors, expected) {
  await until('everything is acknowledged', () =>
    authors.every(author => (author.seen.get(author.clientId) ?? 0) === author.clock), 60_000)
  // A step 2 holds only what is stored, deletions too.
  const late = await RawClient.connect(server(), page)
  assert.equal(contentOfUpdate((await late.settle()).body).text, expected, 'for a late joiner')
  assert.equal((await server().content(page)).text, expected, 'for a backend')
  await server().kill()
  await server().launch()
  assert.equal((await server().content(page)).text, expected, 'for a backend after a restart')
  const later = await RawClient.connect(server(), page)
  assert.equal(contentOfUpdate((await later.settle()).body).text, expected, 'for a joiner after a restart')
  disposeRawClients()
}

for (const name of ['automerge-paper', 'rustcode', 'sveltecomponent', 'json-crdt-patch']) {
  test(`${name}: one author`, async () => {
    const trace = load(name)
    const page = freshPage(name)
    const author = await Author.join(page, 1)
    if (trace.startContent) author.edit([[0, 0, trace.startContent]])
    for (const [index, { patches }] of trace.txns.entries()) {
      author.edit(patches)
      if (index % 200 === 0) await author.breathe()
    }
    assert.equal(author.text.toString(), trace.endContent)
    await assertEndsIn(page, [author], trace.endContent)
  })
}

for (const name of ['friendsforever', 'clownschool']) {
  test(`${name}: all authors at once, each on a connection of its own`, async () => {
    const trace = load(name)
    const page = freshPage(name)
    // In one place of one trace the order of client ids decides the outcome, as it does in Yjs itself: they rise by author.
    const authors = []
    for (let agent = 0; agent < trace.numAgents; agent++) authors.push(await Author.join(page, 100 + agent))
    await within('the replay', replay(trace, authors), 240_000)
    await assertEndsIn(page, authors, trace.endContent)
  })
}

// Each author's document holds exactly what a transaction's positions refer to: its ancestors, not more. It sends only when
// the server has passed those on to it, as a real client would.
async function replay ({ txns }, authors) {
  const done = txns.map(() => undefined)
  const known = authors.map(() => new Set())
  for (const [index, { parents, agent, patches }] of txns.entries()) {
    const author = authors[agent]
    const missing = []
    const open = [...parents]
    while (open.length > 0) {
      const ancestor = open.pop()
      if (known[agent].has(ancestor)) continue
      known[agent].add(ancestor)
      missing.push(ancestor)
      open.push(...txns[ancestor].parents)
    }
    for (const ancestor of missing.sort((a, b) => a - b)) {
      const { update, clientId, clock } = done[ancestor]
      await author.hasSeen(clientId, clock)
      if (update) Y.applyUpdate(author.doc, update)
    }
    const update = author.edit(patches)
    done[index] = { update, clientId: author.clientId, clock: author.clock }
    known[agent].add(index)
    if (index % 200 === 0) await author.breathe()
  }
}
