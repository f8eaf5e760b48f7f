// Measures presence, typing and cursors of Socket.IO clients, beside a relay that tells everything to everybody, and prints a table.
//
//   cargo build --release --bin pageroom && npm --prefix benches/peers ci && node benches/events.mjs
//
// The server runs on one core and the load on another; each run gets a fresh server. Clients of Pageroom join by the page's id, as the
// applications do, or with an object, and hear sets then. Of the watchers, WATCHED are asked how old is what they hear; of all, frames and
// bytes count. Settings, all of them variables:
//   TYPISTS                how many type and point at a page (20,100,500)
//   FOR_SECONDS            for how long (10)
//   MOVES                  cursors a second of each (2)
//   JOINS                  how many join a page at once (1000)
//   SERVER_CPU, LOAD_CPU   the cores (0 and 1)
//   PAGEROOM_BIN           the binary (that of target/release)

import { execFileSync, spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'

import WebSocket from './peers/node_modules/ws/wrapper.mjs'

const here = dirname(fileURLToPath(import.meta.url))
const settings = {
  typists: (process.env.TYPISTS ?? '20,100,500').split(',').map(Number),
  seconds: Number(process.env.FOR_SECONDS ?? 10),
  moves: Number(process.env.MOVES ?? 2),
  joins: Number(process.env.JOINS ?? 1000),
  serverCpu: process.env.SERVER_CPU ?? '0',
  loadCpu: process.env.LOAD_CPU ?? '1',
  pageroom: resolve(process.env.PAGEROOM_BIN ?? join(process.env.CARGO_TARGET_DIR ?? join(here, '../target'), 'release/pageroom'))
}

const WATCHED = 10
/** What is still on its way after the last event is waited for so long at most. */
const DRAIN_MS = 20_000
const PAGE = 'bench'
const TICKS_PER_SECOND = Number(execFileSync('getconf', ['CLK_TCK']))

execFileSync('taskset', ['-apc', settings.loadCpu, String(process.pid)], { stdio: 'ignore' })

async function freePort () {
  const probe = createServer()
  await new Promise(resolve => probe.listen(0, '127.0.0.1', resolve))
  const { port } = probe.address()
  await new Promise(resolve => probe.close(resolve))
  return port
}

const PEERS = {
  relay: { command: port => [process.execPath, join(here, 'peers/events_relay.mjs'), String(port)], join: PAGE },
  'pageroom, by id': { command: () => [settings.pageroom, 'serve'], join: PAGE },
  'pageroom, sets': { command: () => [settings.pageroom, 'serve'], join: { pageId: PAGE } }
}

/** Runs `measure` with a server of its own. */
async function withServer (peer, measure) {
  const folder = mkdtempSync(join(tmpdir(), 'pageroom-events-'))
  const port = await freePort()
  const env = { ...process.env, HOST: '127.0.0.1', PORT: String(port), DATABASE_URL: 'memory:', RUST_LOG: 'error', NODE_ENV: 'production' }
  const child = spawn('taskset', ['-c', settings.serverCpu, ...PEERS[peer].command(port)], { env, cwd: folder, stdio: 'ignore' })
  const ended = new Promise(resolve => child.once('exit', resolve))
  try {
    for (let tries = 0; ; tries++) {
      const answer = await fetch(`http://127.0.0.1:${port}/socket.io/`).catch(() => null)
      if (answer) break
      if (tries === 200 || child.exitCode !== null) throw new Error(`${peer} does not start`)
      await sleep(50)
    }
    return await measure(port, child.pid)
  } finally {
    child.kill('SIGKILL')
    await ended
    rmSync(folder, { recursive: true })
  }
}

/** Seconds of processor that a process has used. */
function cpuSeconds (pid) {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1].split(' ')
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND
}

class Client {
  constructor (port, isWatched) {
    Object.assign(this, { frames: 0, bytes: 0, ages: [], heardAt: 0, isWatched })
    this.socket = new WebSocket(`ws://127.0.0.1:${port}/socket.io/?EIO=4&transport=websocket`, { perMessageDeflate: false })
    this.connected = new Promise((resolve, reject) => {
      this.onConnected = resolve
      this.socket.once('error', reject)
    })
    this.socket.on('message', data => this.hear(data))
  }

  hear (data) {
    // Engine.IO's first byte, and Socket.IO's behind it.
    const [kind, type] = [data[0] - 48, data[1] - 48]
    if (kind === 0) return this.socket.send('40')
    if (kind === 2) return this.socket.send('3')
    if (kind !== 4) return
    if (type === 0) return this.onConnected()
    if (type === 3) return this.onAnswer?.()
    this.frames++
    this.bytes += data.length
    this.heardAt = performance.now()
    if (!this.isWatched) return
    const [event, body] = JSON.parse(data.subarray(2))
    const moved = event === 'cursor_moved' ? [body] : event === 'cursors_moved' ? body.cursors : []
    for (const { cursor } of moved) if (cursor) this.ages.push(this.heardAt - cursor.at)
  }

  say (event, body) { this.socket.send(`42${JSON.stringify([event, body])}`) }

  join (how) {
    const answered = new Promise(resolve => { this.onAnswer = resolve })
    this.socket.send(`421${JSON.stringify(['join_page', how])}`)
    return answered
  }
}

/** So many connected clients. */
async function connect (port, count) {
  const clients = []
  while (clients.length < count) {
    const some = Array.from({ length: Math.min(50, count - clients.length) }, (_, at) => new Client(port, clients.length + at < WATCHED))
    await Promise.all(some.map(client => client.connected))
    clients.push(...some)
  }
  return clients
}

const sum = (clients, field) => clients.reduce((total, client) => total + client[field], 0)

/** Waits until nobody has heard anything for a while; gives the time at which the last one did. */
async function quiet (clients) {
  const until = performance.now() + DRAIN_MS
  for (;;) {
    const last = Math.max(...clients.map(({ heardAt }) => heardAt))
    const now = performance.now()
    if (now - last > 1000 || now > until) return last
    await sleep(100)
  }
}

function percentile (values, share) {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted.length ? sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] : NaN
}

/** What the clients and the server have done while `work` ran. */
async function measured (clients, pid, work) {
  const [from, server, load] = [performance.now(), cpuSeconds(pid), process.cpuUsage()]
  for (const client of clients) Object.assign(client, { frames: 0, bytes: 0, ages: [] })
  const ages = await work()
  const last = await quiet(clients)
  const { user, system } = process.cpuUsage(load)
  return {
    frames: sum(clients, 'frames'),
    'MiB': sum(clients, 'bytes') / 2 ** 20,
    'server CPU s': cpuSeconds(pid) - server,
    'load CPU s': (user + system) / 1e6,
    'until quiet s': (last - from) / 1000,
    'p50 ms': percentile(ages ?? clients.flatMap(client => client.ages), 0.5),
    'p99 ms': percentile(ages ?? clients.flatMap(client => client.ages), 0.99)
  }
}

async function typing (peer, count) {
  return withServer(peer, async (port, pid) => {
    const clients = await connect(port, count)
    for (const client of clients) await client.join(PEERS[peer].join)
    await quiet(clients)
    return measured(clients, pid, async () => {
      const end = performance.now() + settings.seconds * 1000
      await Promise.all(clients.map(async (client, at) => {
        // Not all in the same moment.
        await sleep((at / clients.length) * 1000 / settings.moves)
        for (let move = 0; performance.now() < end; move++) {
          // It types for two seconds of four.
          const second = move / settings.moves
          if (second % 4 === 0) client.say('typing_start', { pageId: PAGE })
          if (second % 4 === 2) client.say('typing_stop', { pageId: PAGE })
          client.say('cursor_move', { pageId: PAGE, cursor: { at: performance.now() } })
          await sleep(1000 / settings.moves)
        }
      }))
    })
  })
}

async function joining (peer) {
  return withServer(peer, async (port, pid) => {
    const clients = await connect(port, settings.joins)
    for (const client of clients) client.isWatched = false
    return measured(clients, pid, async () => {
      const from = performance.now()
      return Promise.all(clients.map(async client => {
        await client.join(PEERS[peer].join)
        return performance.now() - from
      }))
    })
  })
}

const shown = value => Number.isNaN(value) ? '–' : String(Number(value.toPrecision(4)))

async function table (title, run) {
  console.log(`\n## ${title}\n`)
  let isFirst = true
  for (const peer of Object.keys(PEERS)) {
    const figures = await run(peer)
    if (isFirst) console.log(`| | ${Object.keys(figures).join(' | ')} |\n|---|${Object.keys(figures).map(() => '---').join('|')}|`)
    isFirst = false
    console.log(`| ${peer} | ${Object.values(figures).map(shown).join(' | ')} |`)
  }
}

for (const count of settings.typists) {
  await table(`${count} at a page type and point, ${settings.moves} cursors a second each, ${settings.seconds} s`, peer => typing(peer, count))
}
if (settings.joins) await table(`${settings.joins} join a page at once; of answers to joins`, joining)
