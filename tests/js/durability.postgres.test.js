// `kill -9` in the middle of writing, on PostgreSQL: nothing that was acknowledged is lost, also when the database crashes
// at the same moment.
//
// PAGEROOM_TEST_SEED repeats a run, PAGEROOM_TEST_ROUNDS changes the number of rounds.

import { test, after } from 'node:test'
import assert from 'node:assert/strict'

import { campaign } from './support/campaign.js'
import { Cluster, POSTGRES_BIN } from './support/postgres.js'
import { Random, seedOfRun } from './support/random.js'
import { disposeRawClients } from './support/raw.js'
import { Server } from './support/server.js'

const ROUNDS = Number(process.env.PAGEROOM_TEST_ROUNDS ?? 40)
/** In every so many rounds the database crashes as well. */
const POWER_CUT_EVERY = 5
const seed = seedOfRun()

after(disposeRawClients)

test(`${ROUNDS} kills on PostgreSQL`, {
  skip: POSTGRES_BIN ? false : 'SKIPPED: no PostgreSQL (PAGEROOM_TEST_POSTGRES_BIN is not set)'
}, async t => {
  console.log(`durability on PostgreSQL: PAGEROOM_TEST_SEED=${seed}`)
  const cluster = await Cluster.start()
  t.after(() => cluster.dispose())
  const server = await Server.start({ databaseUrl: cluster.url })
  t.after(() => server.dispose())
  const isPowerCut = round => round % POWER_CUT_EVERY === POWER_CUT_EVERY - 1
  const counted = await campaign({
    server,
    random: new Random(seed),
    rounds: ROUNDS,
    crash: async round => {
      await Promise.all([server.kill(), isPowerCut(round) && cluster.down()])
    },
    recover: async round => {
      if (isPowerCut(round)) await cluster.up()
      await server.launch()
    }
  })
  console.log(`durability on PostgreSQL: ${JSON.stringify(counted)}`)
  assert.deepEqual(counted.missing, [])
  assert.equal(counted.rounds, ROUNDS)
  assert.ok(counted.acknowledged >= ROUNDS)
  assert.ok(counted.roundsWithEditsUnderWay > ROUNDS / 4, 'the kills hit writing')
})
