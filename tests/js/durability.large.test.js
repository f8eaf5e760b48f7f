// `kill -9` in the middle of storing updates of some megabytes, which SQLite keeps in parts: nothing that was acknowledged is lost or altered.
//
// PAGEROOM_TEST_SEED repeats a run.

import { test } from 'node:test'
import assert from 'node:assert/strict'
import { setTimeout as sleep } from 'node:timers/promises'

import * as Y from 'yjs'

import { Random, seedOfRun } from './support/random.js'
import { Server } from './support/server.js'
import { until } from './support/wait.js'

const KILLS = 8
const WRITERS = 2
const PAGES = 4
const seed = seedOfRun()
console.log(`durability of large updates: PAGEROOM_TEST_SEED=${seed}`)

const pageOf = n => `large-${n % PAGES}`

/** Text of so many characters in which nothing repeats, and that takes one, two or three bytes a character. */
function unlike (random, characters) {
  const letters = Array.from({ length: 64 }, (_, n) => String.fromCharCode(n === 0 ? 0 : n < 48 ? 48 + n : n < 56 ? 0xc0 + n : 0x4e00 + n))
  const chosen = []
  for (let length = 0; length < characters; length += 5) {
    const bits = random.next()
    for (let at = 0; at < 30; at += 6) chosen.push(letters[(bits >>> at) & 63])
  }
  return chosen.join('')
}

test(`${KILLS} kills while large updates are stored`, async t => {
  const server = await Server.start()
  t.after(() => server.dispose())
  const random = new Random(seed)
  const acknowledged = new Map()
  const refused = []
  let tried = 0
  let ends = false

  /** Posts one update after the other, each to a field of its own; one that gets no answer is let go. */
  const writes = async () => {
    while (!ends) {
      const [page, field] = [pageOf(tried), `field ${tried++}`]
      const ydoc = new Y.Doc()
      const text = unlike(random, 600_000 + random.below(1_500_000))
      ydoc.getText(field).insert(0, text)
      const body = Y.encodeStateAsUpdate(ydoc)
      ydoc.destroy()
      try {
        const posted = await server.api(`/api/pages/${page}/updates`, { method: 'POST', body })
        await posted.arrayBuffer()
        if (posted.ok) acknowledged.set(field, { page, text })
        else if (posted.status !== 503) refused.push(posted.status)
      } catch {
        // The server was killed, or is not there yet.
        await sleep(20)
      }
    }
  }

  const writers = Array.from({ length: WRITERS }, writes)
  for (let kill = 1; kill <= KILLS; kill++) {
    const before = acknowledged.size
    await until(() => `something is acknowledged before kill ${kill}`, () => acknowledged.size > before)
    await sleep(random.below(400))
    await server.kill()
    await server.launch()
  }
  ends = true
  await Promise.all(writers)
  assert.deepEqual(refused, [])
  await server.restart()

  const stored = new Map()
  for (let n = 0; n < PAGES; n++) {
    const snapshot = await server.api(`/api/pages/${pageOf(n)}/snapshot`)
    assert.equal(snapshot.status, 200)
    const ydoc = new Y.Doc()
    Y.applyUpdate(ydoc, new Uint8Array(await snapshot.arrayBuffer()))
    stored.set(pageOf(n), ydoc)
  }
  // Compared without printing megabytes.
  const altered = [...acknowledged].filter(([field, { page, text }]) => stored.get(page).getText(field).toString() !== text)
  assert.deepEqual(altered.map(([field]) => field), [])
  assert.ok(acknowledged.size >= KILLS)
  console.log(`durability of large updates: ${acknowledged.size} of ${tried} were acknowledged, all are there`)
})
