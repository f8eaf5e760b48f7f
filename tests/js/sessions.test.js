// Many short seeded sessions of concurrent editing with lost connections; each must end equal everywhere.
//
// So many that each provider takes part in about a hundred. PAGEROOM_TEST_SEED repeats a run, PAGEROOM_TEST_SESSIONS changes their
// number.

import { after, before, describe, test } from 'node:test'
import assert from 'node:assert/strict'

import * as Y from 'yjs'

import { Client, PROVIDERS, canonical, converged, disposeClients, whenStored } from './support/clients.js'
import { contentOfUpdate } from './support/content.js'
import { Random, seedOfRun } from './support/random.js'
import { Server } from './support/server.js'
import { freshPage } from './support/suite.js'

const SESSIONS = Number(process.env.PAGEROOM_TEST_SESSIONS ?? 500)
const STEPS = 60

const baseSeed = seedOfRun()
console.log(`sessions: PAGEROOM_TEST_SEED=${baseSeed}, ${SESSIONS} sessions`)

const WORDS = ['a', 'word ', 'zwölf', '日本', '😀', 'line\n', ' ', 'x'.repeat(40)]
const VALUES = [1, -7, 2.5, true, null, 'text', 'ü', [1, [2]], { deep: { er: [null] } }]

/** A place in the text, never inside a surrogate pair: no editor puts a cursor there, and Yjs destroys a pair it splits. */
function place (client, random) {
  const { text } = client
  const index = random.below(text.length + 1)
  const unit = text.charCodeAt(index)
  return unit >= 0xdc00 && unit <= 0xdfff ? index - 1 : index
}

/** Two places in the text, the first one before or at the second. */
const range = (client, random) => [place(client, random), place(client, random)].sort((a, b) => a - b)

/** Every kind of edit; each leaves the client as a real one would. */
const EDITS = [
  (client, random) => client.insertText(place(client, random), random.pick(WORDS)),
  (client, random) => client.insertText(client.textLength, random.pick(WORDS)),
  (client, random) => {
    const [from, to] = range(client, random)
    const end = to - from > 10 ? from : to
    if (end > from) client.deleteText(from, end - from)
  },
  (client, random) => {
    const [from, to] = range(client, random)
    if (to > from) client.formatText(from, to - from, random.pick([{ bold: true }, { bold: null }, { color: 'red' }]))
  },
  (client, random) => client.setEntry(`key ${random.below(6)}`, random.pick(VALUES)),
  (client, random) => client.deleteEntry(`key ${random.below(6)}`),
  (client, random) => client.insertItems(random.below(client.arrayLength + 1), [random.pick(VALUES), random.below(100)]),
  (client, random) => {
    if (client.arrayLength > 0) client.deleteItems(random.below(client.arrayLength), 1)
  },
  (client, random) => client.insertElement(
    random.below(client.elementCount + 1), random.pick(['p', 'h1', 'li']), String(random.below(1000)), random.pick(WORDS).trim()),
  (client, random) => {
    if (client.elementCount > 0) client.setElementAttribute(random.below(client.elementCount), `v${random.below(1000)}`)
  },
  (client, random) => {
    if (client.elementCount > 0) client.deleteElements(random.below(client.elementCount), 1)
  },
  (client, random) => client.transact(() => {
    client.insertText(0, random.pick(WORDS))
    client.setEntry('both', random.below(1000))
    client.insertItems(0, [random.pick(VALUES)])
  })
]

async function session (server, seed) {
  const random = new Random(seed)
  const page = freshPage(`session/${seed}`)
  const joinOne = () => new Client(server, page, {
    version: random.pick(PROVIDERS), connect: random.chance(80), presence: { user: { name: `user ${random.below(100)}` } }
  })
  const clients = Array.from({ length: 2 + random.below(3) }, joinOne)
  for (let step = 0; step < STEPS; step++) {
    const client = random.pick(clients)
    const die = random.below(100)
    if (die < 70) random.pick(EDITS)(client, random)
    else if (die < 75) client.bounce()
    else if (die < 80) client.breakConnection()
    else if (die < 84) client.offline()
    else if (die < 92) client.online()
    else if (die < 94 && clients.length < 5) clients.push(joinOne())
    // Lets frames travel, now and then, so that edits meet at many different moments: time is part of what is tried out here,
    // and nothing relies on how much of it passes.
    else await new Promise(resolve => setTimeout(resolve, random.below(15)))
    if (random.chance(40)) await new Promise(resolve => setImmediate(resolve))
  }
  // No root stays empty: an empty one has no type on the wire, so readers could not agree on how to write it.
  clients[0].insertText(0, 'end')
  clients[0].setEntry('end', true)
  clients[0].insertItems(0, ['end'])
  clients[0].insertElement(0, 'p', 'end', 'end')
  for (const client of clients) client.online()
  for (const client of clients) await client.whenSynced(30_000)

  // Everybody's edits merged here, without the server: that is what all must end with.
  const merged = new Y.Doc()
  for (const { doc, version } of clients) Y.applyUpdate(merged, version.Y.encodeStateAsUpdate(doc))
  const expected = JSON.stringify(canonical(contentOfUpdate(Y.encodeStateAsUpdate(merged))))
  const content = await converged(clients, 30_000)
  assert.equal(JSON.stringify(canonical(content)), expected)
  await whenStored(server, page, clients[0].content)
  assert.deepEqual(canonical(await server.content(page)), canonical(clients[0].content))
  for (const client of clients) client.dispose()
}

describe(`${SESSIONS} sessions`, () => {
  let server
  before(async () => {
    // A client that polls does not see that the answer to what it sent broke off: it sends nothing more until the server ends the
    // session, because no ping is answered.
    server = await Server.start({ env: { PAGEROOM_PING_INTERVAL_SECONDS: '3', PAGEROOM_PING_TIMEOUT_SECONDS: '3' } })
  })
  after(async () => { disposeClients(); await server.dispose() })

  for (let i = 0; i < SESSIONS; i++) {
    const seed = baseSeed + i
    test(`seed ${seed}`, () => session(server, seed))
  }
})
