// Documents that real Yjs wrote come out of the server as they went in: content, clocks, deletions, the order of every struct, and
// every value; to newcomers, to those who come back with something earlier, over REST, and after a restart.
//
// PAGEROOM_TEST_SEED repeats a run, PAGEROOM_TEST_DOCUMENTS changes the number of documents, and PAGEROOM_TEST_WITHOUT leaves kinds
// of content out (see support/generator.js; "early": updates before what they build on).

import { after, before, describe, test } from 'node:test'
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'

import * as Y from 'yjs'

import { Client, canonical, disposeClients } from './support/clients.js'
import { generate, has } from './support/generator.js'
import { Random, seedOfRun } from './support/random.js'
import { RawClient, disposeRawClients, hex, syncStep1, syncStep2, syncUpdate } from './support/raw.js'
import { Server } from './support/server.js'
import { applyQuietly, documentFrom, documentOf, documentWritten, isTwisted, sayable } from './support/structs.js'
import { until } from './support/wait.js'

const DOCUMENTS = Number(process.env.PAGEROOM_TEST_DOCUMENTS ?? 300)

/** Documents that are on their way at the same time. */
const AT_ONCE = 8

/** How many failures are told in full: one fault shows in many documents. */
const MAX_TOLD = 5

const baseSeed = seedOfRun()
console.log(`equality: PAGEROOM_TEST_SEED=${baseSeed}, ${DOCUMENTS} documents`)

const shuffled = (values, random) => values.map(value => [random.next(), value]).sort((a, b) => a[0] - b[0]).map(([, value]) => value)

const post = async (server, page, update) => {
  const response = await server.api(`/api/pages/${page}/updates`, { method: 'POST', body: update })
  const answer = await response.text()
  assert.equal(response.status, 200, `a post of ${Buffer.from(update).toString('hex').slice(0, 400)}: ${answer}`)
}

/** Ways in which an author's document reaches the server. Each gives a function that ends it, and what it wrote by itself. */
const WAYS = {
  /** A socket that is there all the time. */
  async live (server, page, author) {
    const raw = await RawClient.connect(server, page)
    for (const update of author.updates) {
      raw.send(syncUpdate(update))
      await new Promise(resolve => setImmediate(resolve))
    }
    await settled(raw)
    raw.dispose()
  },

  /** Somebody who wrote offline: the server asks, and gets all that it lacks. */
  async offline (server, page, author) {
    const raw = await RawClient.connect(server, page)
    const { body } = await raw.next('step1')
    const update = author.Y.encodeStateAsUpdate(author.doc, body)
    raw.send(syncStep2(update))
    await settled(raw)
    raw.dispose()
  },

  /** A backend that posts what it has, some of it twice. */
  async posted (server, page, author, random) {
    for (const update of author.updates) {
      await post(server, page, update)
      if (random.chance(10)) await post(server, page, random.pick(author.updates.slice(0, author.updates.indexOf(update) + 1)))
    }
  },

  /** Updates in any order, some twice. */
  async early (server, page, author, random) {
    const raw = await RawClient.connect(server, page)
    for (const update of shuffled([...author.updates, ...author.updates.filter(() => random.chance(10))], random)) raw.send(syncUpdate(update))
    await settled(raw)
    raw.dispose()
  },

  /** A real provider with a document of its own, which hears the others. */
  async provider (server, page, author) {
    const client = new Client(server, page)
    for (const update of author.updates) {
      Y.applyUpdate(client.doc, update)
      await new Promise(resolve => setImmediate(resolve))
    }
    await client.whenSynced()
    return client
  }
}

/** Waits for a round trip, after which everything sent before has been handled. */
async function settled (raw) {
  raw.messages.length = 0
  const answer = raw.settle()
  const gone = raw.closed.then(({ code, reason }) => { throw new Error(`the server closed the connection: ${code} ${reason}`) })
  gone.catch(() => {})
  await Promise.race([answer, gone])
}

/** What the server gives to somebody who has `stateVector`. */
async function asked (server, page, stateVector = hex('00')) {
  const raw = await RawClient.connect(server, page)
  raw.send(syncStep1(stateVector))
  const { body } = await raw.next('step2')
  raw.dispose()
  return body
}

async function snapshot (server, page, stateVector) {
  const query = stateVector ? `?sv=${Buffer.from(stateVector).toString('base64url')}` : ''
  const response = await server.api(`/api/pages/${page}/snapshot${query}`)
  assert.equal(response.status, 200)
  return new Uint8Array(await response.arrayBuffer())
}

/** Fails with the first line that differs. */
function assertWritten (doc, expected, what) {
  const actual = documentWritten(doc)
  if (actual === expected) return
  const [lines, wanted] = [actual.split('\n'), expected.split('\n')]
  const at = wanted.findIndex((line, index) => line !== lines[index])
  assert.fail(`${what}: line ${at} is ${lines[at]?.slice(0, 300)}, not ${wanted[at]?.slice(0, 300)}`)
}

const digest = text => createHash('sha256').update(text).digest('hex')

/** Brings the documents of a seed to a page and looks at everything that comes back; gives what the page must be from then on. */
async function document (server, seed, gc = true) {
  const page = `equality-${seed}`
  const documentOf = (...updates) => documentFrom(updates, gc)
  const random = new Random(seed ^ 0x5bd1e995)
  const { authors, early } = generate(seed, { gc })
  // A provider's document collects garbage before it passes anything on.
  const names = Object.keys(WAYS).filter(name => name === 'early' ? has('early') : name !== 'provider' || gc)
  const ways = shuffled(authors, random).map(author => ({ author, way: WAYS[random.pick(names)], random: new Random(random.next()) }))
  const started = ways.map(({ author, way, random }) => () => way(server, page, author, random))
  const ends = random.chance(50)
    ? await Promise.all(started.map(start => start()))
    : await started.reduce(async (before, start) => [...await before, await start()], [])
  const providers = ends.filter(Boolean)
  const logs = authors.flatMap(author => author.updates)

  // Providers write a little by themselves: Yjs deletes formats that say nothing, when it hears of the others' edits. So they are
  // asked until all is there, and has come to each of them.
  let whole, written
  await until('the page holds what everybody wrote', async () => {
    const states = providers.map(({ doc }) => Y.encodeStateAsUpdate(doc))
    written = documentWritten(documentOf(...logs, ...states))
    whole = await asked(server, page)
    return providers.length === 0 || [whole, ...states].every(state => documentWritten(documentOf(state)) === written)
  }, 30_000).catch(() => {})
  for (const provider of providers) provider.dispose()

  const reference = documentOf(whole)
  const shown = documentWritten(reference)
  if (shown !== written && isTwisted(logs)) {
    // Yjs differs from itself. What its author shows is what the page shows, but not how: the author keeps what it might undo.
    if (authors.length === 1 && providers.length === 0) assert.deepEqual(sayable(reference), sayable(authors[0].doc))
    return { seed, page, digest: digest(shown), written: shown.length < 20_000 ? shown : undefined }
  }
  assertWritten(reference, written, 'a newcomer')
  assertWritten(documentOf(await snapshot(server, page)), written, 'the snapshot')
  const had = [...early, ...authors.map(({ Y, doc }) => ({ stateVector: Y.encodeStateVector(doc), state: Y.encodeStateAsUpdate(doc) }))]
  for (const { stateVector, state } of had) {
    const doc = documentOf(state)
    const over = random.chance(50) ? asked : snapshot
    applyQuietly(doc, await over(server, page, stateVector))
    assertWritten(doc, written, `somebody who comes back (${over.name})`)
  }
  const expected = sayable(reference)
  const content = await server.content(page)
  const said = Object.fromEntries(Object.keys(expected).map(root => [root, content[root]]))
  assert.deepEqual(canonical(said), canonical(expected))
  return { seed, page, digest: digest(written), written: written.length < 20_000 ? written : undefined }
}

/** Runs `work` on each of `inputs`, several at a time; gives the results and tells the failures. */
async function each (inputs, work) {
  const results = []
  const failures = []
  const queue = inputs.values()
  await Promise.all(Array.from({ length: AT_ONCE }, async () => {
    for (const input of queue) {
      try {
        results.push(await work(input))
      } catch (error) {
        failures.push(`PAGEROOM_TEST_SEED=${input.seed ?? input} PAGEROOM_TEST_DOCUMENTS=1: ${error.stack}`)
      }
    }
  }))
  assert.equal(failures.length, 0, `${failures.length} of ${inputs.length} documents differ:\n${failures.slice(0, MAX_TOLD).join('\n\n')}`)
  return results
}

describe(`${DOCUMENTS} documents of real Yjs`, () => {
  let server
  let pages = []
  before(async () => {
    server = await Server.start({ env: { PAGEROOM_MAX_UPDATES_PER_SECOND: '0' } })
  })
  after(async () => {
    disposeClients()
    disposeRawClients()
    await server.dispose()
  })

  test('are served as they were written', async () => {
    pages = await each(Array.from({ length: DOCUMENTS }, (_, index) => baseSeed + index), seed => document(server, seed))
  })

  test('are the same after a kill and a restart', async () => {
    await server.restart()
    await each(pages, async ({ page, digest: expected, written }) => {
      const doc = documentOf(await asked(server, page))
      if (written) assertWritten(doc, written, 'a newcomer after the restart')
      assert.equal(digest(documentWritten(doc)), expected)
    })
  })
})

describe('where nothing is collected', () => {
  let server
  before(async () => {
    server = await Server.start({ env: { PAGEROOM_MAX_UPDATES_PER_SECOND: '0', PAGEROOM_GC: 'false' } })
  })
  after(async () => {
    disposeRawClients()
    await server.dispose()
  })

  test('what was deleted is served as well', { skip: !has('deleted') && 'left out' }, async () => {
    const seeds = Array.from({ length: Math.ceil(DOCUMENTS / 10) }, (_, index) => baseSeed + index)
    await each(seeds, seed => document(server, seed, false))
  })
})
