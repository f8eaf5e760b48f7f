// Times the acknowledgements of a small page while another page of the same server is large and edited.
//
//   cargo build --release --bin pageroom && node benches/neighbours.mjs
//
// The large page grows by posts of 6 MB, then gets an edit of one letter every 50 ms; the small one gets one every 10 ms all the while, and
// before there is anything beside it. Fails where the 99th percentile is over 100 ms. Settings, all of them variables:
//   STORES                       where pages are stored (sqlite, and postgres where it is named)
//   POSTS                        how many posts make the large page (8)
//   SECONDS                      for how long it is edited (60)
//   SERVER_CPU, LOAD_CPU         the cores (0 and 1)
//   PAGEROOM_BIN                 the binary (that of target/release)
//   PAGEROOM_TEST_POSTGRES_BIN   the folder of PostgreSQL's programs, for a throw-away database

import { mkdtempSync, rmSync } from 'node:fs'
import { Agent, request } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { Child, freshPort, settings as common, shown, startPostgres } from './support/processes.mjs'

const limitMs = 100
const clients = 50
const posts = Number(process.env.POSTS ?? 8)
const seconds = Number(process.env.SECONDS ?? 60)
const stores = process.env.STORES?.split(',') ?? ['sqlite', ...(common.postgres ? ['postgres'] : [])]
const adminToken = 'a token of the backend, for figures alone'
const agent = new Agent({ keepAlive: true })

/** A number as Yjs writes it. */
function number (value) {
  const bytes = []
  for (; value > 127; value = Math.floor(value / 128)) bytes.push(128 | value % 128)
  return Buffer.from([...bytes, value])
}

/** An update: this text of a client from this clock on, at the beginning of `root`, or behind what the client has written before. */
function insert (root, client, clock, text) {
  const place = clock === 0
    ? [Buffer.from([0x04, 1]), number(root.length), Buffer.from(root)]
    : [Buffer.from([0x84]), number(client), number(clock - 1)]
  const head = [Buffer.from([1, 1]), number(client), number(clock), ...place, number(text.length)]
  return Buffer.concat([...head, Buffer.from(text), Buffer.from([0])])
}

/** Posts an update; says after how many milliseconds it was acknowledged. */
function post (port, page, update) {
  return new Promise((resolve, reject) => {
    const began = process.hrtime.bigint()
    const headers = { authorization: `Bearer ${adminToken}`, 'content-type': 'application/octet-stream' }
    const asked = request({ port, agent, method: 'POST', path: `/api/pages/${page}/updates`, headers }, answer => {
      answer.resume()
      answer.on('end', () => answer.statusCode < 300
        ? resolve(Number(process.hrtime.bigint() - began) / 1e6)
        : reject(new Error(`an update of ${update.length} bytes: ${answer.statusCode}`)))
    })
    asked.on('error', reject)
    asked.end(update)
  })
}

/** Several clients edit a page letter by letter until `stop.is` is set, together one letter every so often; gives how long each took. What
 * should have been typed while the letter before was under way counts from when it should have, so that a long wait is not one value among
 * many short ones. */
async function type (port, page, client, everyMs, stop) {
  const taken = []
  const began = performance.now()
  const types = async n => {
    for (let clock = 0; !stop.is; clock++) {
      const due = began + (clock * clients + n) * everyMs
      if (performance.now() < due) await sleep(due - performance.now())
      await post(port, page, insert('text', client + n, clock, 'a'))
      taken.push(performance.now() - due)
    }
  }
  await Promise.all(Array.from({ length: clients }, (_, n) => types(n)))
  return taken.sort((left, right) => left - right)
}

const percentile = (sorted, share) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))]
function row (name, taken) {
  const [half, most, longest] = [0.5, 0.99, 1].map(share => percentile(taken, share))
  console.log(`${name.padEnd(38)} p50 ${shown(half)} ms, p99 ${shown(most)} ms, longest ${shown(longest)} ms, ${taken.length} edits`)
  if (most > limitMs) process.exitCode = 1
}

async function measure (store) {
  const folder = mkdtempSync(join(tmpdir(), 'pageroom-neighbours-'))
  const database = store === 'postgres' ? await startPostgres(folder) : undefined
  const port = freshPort()
  const env = {
    HOST: '127.0.0.1',
    PORT: String(port),
    DATABASE_URL: database?.url ?? `sqlite://${join(folder, 'pageroom.db')}`,
    RUST_LOG: 'error',
    PAGEROOM_ADMIN_TOKEN: adminToken,
    PAGEROOM_MAX_REQUESTS_PER_SECOND: '0'
  }
  const server = new Child(common.pageroom, ['serve'], { cpu: common.serverCpu, env, log: join(folder, 'pageroom.log') })
  try {
    await server.listening(port)
    const alone = { is: false }
    const before = type(port, 'small', 1000, 10, alone)
    await sleep(5_000)
    alone.is = true
    row(`${store}: nothing beside it`, await before)

    const grown = { is: false }
    const whileGrowing = type(port, 'small', 2000, 10, grown)
    const began = performance.now()
    for (let n = 0; n < posts; n++) await post(port, 'large', insert('text', 10 + n, 0, 'word '.repeat(1_200_000)))
    const took = (performance.now() - began) / 1000
    grown.is = true
    row(`${store}: beside ${posts} posts in ${took.toFixed(1)} s`, await whileGrowing)

    const done = { is: false }
    const whileEdited = type(port, 'small', 3000, 10, done)
    const edits = type(port, 'large', 4000, 50, done)
    await sleep(seconds * 1000)
    done.is = true
    row(`${store}: beside a page of ${posts * 6} MB`, await whileEdited)
    row(`${store}: that page itself`, await edits)
  } finally {
    await server.stop()
    await database?.child.stop('SIGINT')
    rmSync(folder, { recursive: true, force: true })
  }
}

for (const store of stores) await measure(store)
agent.destroy()
