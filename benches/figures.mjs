// Measures the figures that Pageroom is held to, side by side with a bare relay, and prints a table.
//
//   cargo build --release --bin pageroom --example relay && node benches/figures.mjs
//
// The server runs on one core and the load on another; each run gets a fresh server on an empty store; peers take turns, and
// medians count. Settings, all of them variables:
//   RUNS                         how often each is measured (3)
//   ONLY                         names of figures, separated by commas (all)
//   OUT                          a file for everything that was measured, as JSON
//   SERVER_CPU, LOAD_CPU         the cores (0 and 1)
//   PRIORITY                     a real-time priority for server and load, so that others on the machine disturb less (none)
//   PAGEROOM_BIN, RELAY_BIN      the binaries (those of target/release); LOAD_BIN makes the load (PAGEROOM_BIN)
//   Y_WEBSOCKET_SERVER           y-websocket's own server as a peer: its start file (that of benches/peers, when installed)
//   PAGEROOM_TEST_POSTGRES_BIN   the folder of PostgreSQL's programs, for a throw-away database
//   TRACE                        the trace to replay (tests/traces/automerge-paper.json.gz)

import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as later } from 'node:timers'
import { Child, freshPort, median, root, settings as common, shown, startPostgres, target } from './support/processes.mjs'

const settings = {
  ...common,
  load: process.env.LOAD_BIN ?? process.env.PAGEROOM_BIN ?? join(target, 'release/pageroom'),
  relay: process.env.RELAY_BIN ?? join(target, 'release/examples/relay'),
  yWebsocket: process.env.Y_WEBSOCKET_SERVER ?? join(root, 'benches/peers/node_modules/@y/websocket-server/src/server.js')
}

/** The servers under load; each start gives the address for clients and a way to stop it. */
const peers = {
  relay: async folder => {
    const port = freshPort()
    const child = new Child(settings.relay, [`127.0.0.1:${port}`], { cpu: settings.serverCpu, log: join(folder, 'relay.log') })
    await child.listening(port)
    return { child, url: `ws://127.0.0.1:${port}`, flags: ['--relay'] }
  },
  pageroom: async (folder, databaseUrl = `sqlite://${join(folder, 'pageroom.db')}`) => {
    const port = freshPort()
    const env = {
      HOST: '127.0.0.1', PORT: String(port), DATABASE_URL: databaseUrl, RUST_LOG: 'warn',
      // The figures ask what the server can do, not what it allows.
      PAGEROOM_MAX_UPDATES_PER_SECOND: '0'
    }
    const child = new Child(settings.pageroom, ['serve'], { cpu: settings.serverCpu, env, log: join(folder, 'pageroom.log') })
    await child.listening(port)
    return { child, url: `ws://127.0.0.1:${port}/ws`, flags: [] }
  },
  'y-websocket': async folder => {
    const port = freshPort()
    const env = { HOST: '127.0.0.1', PORT: String(port), NODE_ENV: 'production' }
    const child = new Child(process.execPath, [settings.yWebsocket], { cpu: settings.serverCpu, env, log: join(folder, 'y-websocket.log') })
    await child.listening(port)
    return { child, url: `ws://127.0.0.1:${port}`, flags: [] }
  }
}

/** Runs `pageroom bench` and returns its figures. */
async function load (server, args, seconds = 180) {
  const folder = mkdtempSync(join(tmpdir(), 'pageroom-load-'))
  const json = join(folder, 'figures.json')
  const log = join(folder, 'log')
  const pid = String(server.child.process.pid)
  // Its store goes with it, and a later call opens what an earlier one has made.
  const common = ['--url', server.url, '--server-pid', pid, '--json', json, '--keep', ...server.flags]
  const child = new Child(settings.load, ['bench', ...args, ...common], { cpu: settings.loadCpu, log })
  const late = later(() => child.process.kill('SIGKILL'), seconds * 1000)
  await child.ended
  clearTimeout(late)
  try {
    if (!existsSync(json)) throw new Error(`pageroom bench ${args.join(' ')}:\n${readFileSync(log, 'utf8').slice(-2000)}`)
    return JSON.parse(readFileSync(json, 'utf8'))
  } finally {
    rmSync(folder, { recursive: true })
  }
}

/** Runs `measure` with a fresh server of this kind. */
async function withServer (peer, measure) {
  const folder = mkdtempSync(join(tmpdir(), `pageroom-figures-${peer}-`))
  let database
  let server
  try {
    if (peer === 'pageroom-postgres') {
      database = await startPostgres(folder)
      server = await peers.pageroom(folder, database.url)
    } else {
      server = await peers[peer](folder)
    }
    return await measure(server, folder)
  } finally {
    await server?.child.stop()
    await database?.child.stop('SIGINT')
    rmSync(folder, { recursive: true, force: true })
  }
}

const crowd = ['--rooms', '1', '--clients', '100', '--edits-per-second', '2']
const pair = ['--rooms', '1', '--clients', '2', '--edits-per-second', '5']
const many = ['--rooms', '500', '--clients', '2', '--writers', '1', '--edits-per-second', '1']
const thousand = ['--rooms', '200', '--clients', '2', '--writers', '1', '--edits-per-second', '5', '--verify']

const cpu = figures => figures.server_cpu_seconds_per_1000_deliveries
const missing = figures => figures.missing_deliveries + (figures.unacknowledged_edits ?? 0)

/** What is measured with whom, and what must hold of the medians. */
const figures = [
  {
    name: 'crowd',
    what: 'one page, 100 clients typing 2 edits/s',
    peers: ['relay', 'y-websocket', 'pageroom'],
    run: server => load(server, [...crowd, ...(server.flags.length ? [] : ['--verify'])]),
    values: { cpu_s_per_1000: cpu, p50_ms: f => f.propagation.p50_ms, p99_ms: f => f.propagation.p99_ms, frames: f => f.update_frames_per_delivery, missing },
    goals: [
      ['CPU at most half of the relay\'s', m => m.pageroom.cpu_s_per_1000 / m.relay.cpu_s_per_1000, 0.5],
      ['CPU at most a quarter of y-websocket\'s', m => m.pageroom.cpu_s_per_1000 / m['y-websocket']?.cpu_s_per_1000, 0.25],
      ['p99 under 30 ms', m => m.pageroom.p99_ms, 30],
      ['nothing missing', m => m.pageroom.missing, 0]
    ]
  },
  {
    name: 'pair',
    what: 'one page, 2 clients typing 5 edits/s',
    peers: ['relay', 'pageroom'],
    run: server => load(server, pair),
    values: { p50_ms: f => f.propagation.p50_ms, p99_ms: f => f.propagation.p99_ms, missing },
    goals: [['p50 within twice the relay\'s', m => m.pageroom.p50_ms / m.relay.p50_ms, 2]]
  },
  {
    name: 'many',
    what: '500 pages, 2 clients each, one typing 1 edit/s',
    peers: ['relay', 'pageroom'],
    run: server => load(server, many),
    values: { cpu_s_per_1000: cpu, p99_ms: f => f.propagation.p99_ms, ack_p99_ms: f => f.acknowledgement?.p99_ms, missing },
    goals: [
      ['CPU at most 2.2 times the relay\'s', m => m.pageroom.cpu_s_per_1000 / m.relay.cpu_s_per_1000, 2.2],
      ['nothing missing', m => m.pageroom.missing, 0]
    ]
  },
  {
    name: 'replay',
    what: 'the automerge-paper trace, one edit an update; then the page cold from the store',
    peers: ['relay', 'pageroom'],
    run: async (server, folder) => {
      const figures = await load(server, ['replay', settings.trace])
      if (server.flags.length) return figures
      await server.child.stop()
      const again = await peers.pageroom(folder)
      try {
        const cold = await load(again, ['joins', '--clients', '1', '--page', figures.page])
        return { ...figures, cold_ms: cold.first_fetch_ms, warm_ms: cold.fetch.p50_ms }
      } finally {
        await again.child.stop()
      }
    },
    values: {
      cpu_us_per_edit: f => f.server_cpu_microseconds_per_edit,
      settled_us_per_edit: f => f.server_cpu_microseconds_per_edit_settled,
      edits_per_s: f => f.edits_per_second,
      ack_p99_ms: f => f.acknowledgement?.p99_ms,
      missing,
      peak_mib: f => f.server_resident_mib_peak,
      cold_ms: f => f.cold_ms,
      warm_ms: f => f.warm_ms
    },
    goals: [
      ['CPU at most 8 µs an edit', m => m.pageroom.cpu_us_per_edit, 8],
      ['every edit delivered and acknowledged', m => m.pageroom.missing, 0],
      ['cold page under 10 ms', m => m.pageroom.cold_ms, 10]
    ]
  },
  {
    name: 'limit',
    what: 'one page, 20 writers, the highest rate with p99 under 100 ms and nothing missing',
    peers: ['relay', 'pageroom'],
    run: server => load(server, ['limit', '--clients', '20', '--from', '10000'], 900),
    values: { rate: f => f.highest_rate, p99_ms: f => f.propagation?.p99_ms, server_cpu: f => f.server_cpu_percent, load_cpu: f => f.load_cpu_percent },
    goals: [['more edits/s than the relay', m => m.relay.rate / m.pageroom.rate, 1]]
  },
  {
    name: 'idle',
    what: '5,000 idle connections',
    peers: ['relay', 'pageroom'],
    run: server => load(server, ['idle']),
    values: { kib_each: f => f.resident_kib_per_connection, join_cpu_ms: f => f.server_cpu_ms_per_join, idle_cpu: f => f.server_cpu_percent_idle },
    goals: [['at most 8 KiB resident each', m => m.pageroom.kib_each, 8]]
  },
  {
    name: 'pages',
    what: '2,000 open pages of 10 KB with one client each',
    peers: ['relay', 'pageroom'],
    run: async (server, folder) => {
      const figures = await load(server, ['pages'], 300)
      if (server.flags.length) return figures
      await server.child.stop()
      const again = await peers.pageroom(folder)
      try {
        const opened = await load(again, ['pages', '--page', figures.page], 300)
        return { ...figures, opened_kib_each: opened.resident_kib_per_page }
      } finally {
        await again.child.stop()
      }
    },
    values: {
      // Of pages that are open, of pages that were typed just before, and of rooms without anything.
      opened_kib_each: f => f.opened_kib_each,
      typed_kib_each: f => f.resident_kib_per_page,
      empty_kib_each: f => f.resident_kib_per_page_empty,
      peak_mib: f => f.server_resident_mib_peak,
      fill_cpu_s: f => f.fill_server_cpu_seconds
    },
    goals: [['at most 24 KiB a page', m => m.pageroom.opened_kib_each, 24]]
  },
  {
    name: 'storm',
    what: '150 clients open a page of 4 MB at once',
    peers: ['pageroom'],
    run: server => load(server, ['joins']),
    values: { p50_ms: f => f.fetch.p50_ms, p99_ms: f => f.fetch.p99_ms, peak_mib: f => f.server_resident_mib_peak, cpu_ms: f => f.server_cpu_ms_a_round },
    goals: [
      ['p99 under 1 s', m => m.pageroom.p99_ms, 1000],
      ['peak memory under 200 MB', m => m.pageroom.peak_mib * 1.048576, 200]
    ]
  },
  {
    name: 'durable',
    what: '1,000 edits/s over 200 pages',
    peers: ['pageroom', 'pageroom-postgres'],
    run: server => load(server, thousand),
    values: { ack_p50_ms: f => f.acknowledgement.p50_ms, ack_p99_ms: f => f.acknowledgement.p99_ms, cpu_s_per_1000: cpu, missing },
    goals: [
      ['acknowledged within 50 ms at p99, SQLite', m => m.pageroom.ack_p99_ms, 50],
      ['acknowledged within 50 ms at p99, PostgreSQL', m => m['pageroom-postgres']?.ack_p99_ms, 50],
      ['nothing missing', m => m.pageroom.missing + (m['pageroom-postgres']?.missing ?? 0), 0]
    ]
  }
]

const available = peer =>
  peer === 'pageroom-postgres' ? settings.postgres !== undefined : peer === 'y-websocket' ? existsSync(settings.yWebsocket) : true

async function measure (figure) {
  console.log(`\n## ${figure.name}: ${figure.what}\n`)
  const runs = {}
  for (let run = 0; run < settings.runs; run++) {
    for (const peer of figure.peers) {
      if (!available(peer)) continue
      const result = await withServer(peer, figure.run)
      for (const complaint of result.complaints) console.log(`${peer}: ${complaint}`)
      ;(runs[peer] ??= []).push(result)
    }
  }
  const medians = {}
  console.log(`| | ${Object.keys(figure.values).join(' | ')} |`)
  console.log(`|---|${Object.keys(figure.values).map(() => '---').join('|')}|`)
  for (const [peer, results] of Object.entries(runs)) {
    medians[peer] = Object.fromEntries(Object.entries(figure.values).map(([name, pick]) => [name, median(results.map(pick))]))
    console.log(`| ${peer} | ${Object.values(medians[peer]).map(shown).join(' | ')} |`)
  }
  console.log()
  const goals = figure.goals.map(([goal, pick, most]) => {
    const value = pick(medians)
    const met = Number.isFinite(value) ? value <= most : undefined
    console.log(`- ${met === undefined ? 'not measured' : met ? 'met' : 'NOT MET'}: ${goal} (${shown(value)}, at most ${most})`)
    return { goal, value, most, met }
  })
  return { name: figure.name, medians, goals, runs }
}

const chosen = figures.filter(figure => !settings.only || settings.only.includes(figure.name))
const results = []
for (const figure of chosen) {
  results.push(await measure(figure))
  if (settings.out) writeFileSync(settings.out, JSON.stringify(results, null, 1))
}
const goals = results.flatMap(result => result.goals)
console.log(`\n${goals.filter(goal => goal.met).length} of ${goals.filter(goal => goal.met !== undefined).length} goals met`)
process.exitCode = goals.some(goal => goal.met === false) ? 1 : 0
