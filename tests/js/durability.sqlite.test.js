// `kill -9` in the middle of writing, on SQLite: nothing that was acknowledged is lost.
//
// PAGEROOM_TEST_SEED repeats a run, PAGEROOM_TEST_ROUNDS changes the number of rounds.

import { test, after } from 'node:test'
import assert from 'node:assert/strict'

import { campaign } from './support/campaign.js'
import { Random, seedOfRun } from './support/random.js'
import { disposeRawClients } from './support/raw.js'
import { Server } from './support/server.js'

const ROUNDS = Number(process.env.PAGEROOM_TEST_ROUNDS ?? 40)
const seed = seedOfRun()
console.log(`durability on SQLite: PAGEROOM_TEST_SEED=${seed}`)

after(disposeRawClients)

const killed = (server, random, rounds) => campaign({
  server, random, rounds, crash: () => server.kill(), recover: () => server.launch()
})

test(`${ROUNDS} kills on SQLite`, async t => {
  const server = await Server.start()
  t.after(() => server.dispose())
  const counted = await killed(server, new Random(seed), ROUNDS)
  console.log(`durability on SQLite: ${JSON.stringify(counted)}`)
  assert.deepEqual(counted.missing, [])
  assert.equal(counted.rounds, ROUNDS)
  assert.ok(counted.acknowledged >= ROUNDS)
  assert.ok(counted.roundsWithEditsUnderWay > ROUNDS / 4, 'the kills hit writing')
})

test('the campaign would notice: a store that forgets is found out', async t => {
  const server = await Server.start({ databaseUrl: 'memory:' })
  t.after(() => server.dispose())
  const counted = await killed(server, new Random(seed), 1)
  assert.notDeepEqual(counted.missing, [])
})
