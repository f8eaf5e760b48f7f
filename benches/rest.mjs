// Measures the figures that REST for backends is held to, and prints a table.
//
//   cargo build --release --bin pageroom && cargo build --release -p pageroom-load --example requests && node benches/rest.mjs
//
// The server with its reader processes runs on one core, and so does its PostgreSQL; the load runs on another. Each figure gets a fresh
// server on an empty store; rates are of 32 connections that stay open, times of one. Medians of several short runs count. Settings are
// those of benches/figures.mjs, and:
//   REQUESTS_BIN                 makes the load (target/release/examples/requests)
//   SECONDS                      how long a rate is measured each time (3)

import { execFileSync, spawn } from 'node:child_process'
import { createHmac } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { Agent, request } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { gunzipSync } from 'node:zlib'
import { Child, freshPort, median, settings as common, shown, startPostgres, target } from './support/processes.mjs'

const settings = {
  ...common,
  requests: process.env.REQUESTS_BIN ?? join(target, 'release/examples/requests'),
  seconds: process.env.SECONDS ?? '3'
}
const connections = '32'
const adminToken = 'a token of the backend, for figures alone'
const jwtSecret = 'a secret that signs tokens, for figures alone'
const agent = new Agent({ keepAlive: true, maxSockets: 1 })

/** Starts a server over a store that stays in `folder`. */
async function start (folder, databaseUrl) {
  const port = freshPort()
  const env = {
    HOST: '127.0.0.1',
    PORT: String(port),
    DATABASE_URL: databaseUrl,
    RUST_LOG: 'warn',
    JWT_SECRET: jwtSecret,
    PAGEROOM_ADMIN_TOKEN: adminToken,
    PAGEROOM_READERS: '1',
    // The figures ask what the server can do, not what it allows.
    PAGEROOM_MAX_UPDATES_PER_SECOND: '0',
    PAGEROOM_MAX_REQUESTS_PER_SECOND: '0'
  }
  const child = new Child(settings.pageroom, ['serve'], { cpu: settings.serverCpu, env, log: join(folder, 'pageroom.log') })
  await child.listening(port)
  return { child, port, address: `127.0.0.1:${port}`, databaseUrl, env, folder }
}

/** Runs `measure` with a server on an empty store of this kind. */
async function withServer (store, measure) {
  const folder = mkdtempSync(join(tmpdir(), 'pageroom-rest-'))
  let database
  const running = {}
  try {
    if (store === 'postgres') database = await startPostgres(folder)
    const url = database?.url ?? `sqlite://${join(folder, 'pageroom.db')}`
    running.server = await start(folder, url)
    /** The same store with a new server, which has no page open and nothing in memory. */
    running.again = async () => {
      await running.server.child.stop()
      running.server = await start(folder, url)
    }
    return await measure(running)
  } finally {
    await running.server?.child.stop()
    await database?.child.stop('SIGINT')
    rmSync(folder, { recursive: true, force: true })
  }
}

/** Asks the server, and gives status, headers, body and how long it took in milliseconds. */
function ask ({ port }, method, path, { body, headers = {}, token = adminToken } = {}) {
  return new Promise((resolve, reject) => {
    const began = process.hrtime.bigint()
    const options = { agent, host: '127.0.0.1', port, method, path, headers: { authorization: `Bearer ${token}`, ...headers } }
    const asked = request(options, answer => {
      const pieces = []
      answer.on('data', piece => pieces.push(piece))
      answer.on('error', reject)
      answer.on('end', () => {
        const ms = Number(process.hrtime.bigint() - began) / 1e6
        resolve({ status: answer.statusCode, headers: answer.headers, body: Buffer.concat(pieces), ms })
      })
    })
    asked.on('error', reject)
    asked.end(body)
  })
}

/** The same of what must be answered with `status`. */
async function must (status, ...asked) {
  const answer = await ask(...asked)
  if (answer.status !== status) throw new Error(`${asked[1]} ${asked[2]}: ${answer.status} ${answer.body.subarray(0, 300)}`)
  return answer
}

/** How many of these requests are answered in a second, all of them with `status`. */
async function rate (server, requests, status) {
  const heads = requests.map(({ path, headers = {}, token = adminToken }) => {
    const all = { host: server.address, authorization: `Bearer ${token}`, ...headers }
    return { head: `GET ${path} HTTP/1.1\r\n${Object.entries(all).map(([name, value]) => `${name}: ${value}\r\n`).join('')}` }
  })
  const priority = settings.priority ? ['chrt', '-r', settings.priority] : []
  const command = ['-c', settings.loadCpu, ...priority, settings.requests, server.address, connections, settings.seconds]
  const child = spawn('taskset', command, { stdio: ['pipe', 'pipe', 'inherit'] })
  let output = ''
  child.stdout.on('data', data => { output += data })
  child.stdin.end(JSON.stringify(heads))
  const code = await new Promise(resolve => child.once('close', resolve))
  if (code !== 0) throw new Error(`the load ended with ${code}`)
  const report = JSON.parse(output)
  if (Object.keys(report.statuses).some(other => other !== String(status))) {
    throw new Error(`answers other than ${status}: ${JSON.stringify(report.statuses)}`)
  }
  return { per_second: report.per_second, p99_ms: report.p99_ms, load_cpu: report.load_cpu_percent }
}

/** Opens the room of a page for as long as the server runs. */
function attend ({ port }, page) {
  return new Promise((resolve, reject) => {
    const headers = {
      connection: 'Upgrade', upgrade: 'websocket', 'sec-websocket-version': '13', 'sec-websocket-key': 'AAAAAAAAAAAAAAAAAAAAAA=='
    }
    const asked = request({ host: '127.0.0.1', port, path: `/ws/${page}?token=${encodeURIComponent(userToken({ [page]: 'edit' }))}`, headers })
    asked.on('error', reject)
    asked.on('response', answer => reject(new Error(`no WebSocket: ${answer.statusCode}`)))
    asked.on('upgrade', (_, socket) => {
      // It ends with the server.
      socket.on('error', () => {})
      socket.resume()
      // The first message comes when the room is open.
      socket.once('data', () => resolve(socket))
    })
    asked.end()
  })
}

/** A token of a user with these grants. */
function userToken (pages) {
  const part = value => Buffer.from(JSON.stringify(value)).toString('base64url')
  const claims = { sub: 'ada', exp: Math.floor(Date.now() / 1000) + 86_400, pages }
  const signed = `${part({ alg: 'HS256', typ: 'JWT' })}.${part(claims)}`
  return `${signed}.${createHmac('sha256', jwtSecret).update(signed).digest('base64url')}`
}

/** Words of a text of this many bytes, always the same. */
function words (bytes) {
  const text = []
  let [length, seed] = [0, 1]
  while (length < bytes) {
    seed = (seed * 48_271) % 0x7fffffff
    const word = seed.toString(36).slice(0, 2 + seed % 7)
    text.push(word)
    length += word.length + 1
  }
  return text
}

const contentPath = (page, format) => `/api/pages/${page}/content?format=${format}`

/** A page of 100 KB of text, of which a hundred words have been changed. */
async function writePage (server, page) {
  const text = words(100_000)
  for (let edit = 0; edit <= 100; edit++) {
    text[edit * 97 % text.length] = `changed${edit}`
    await must(200, server, 'PUT', contentPath(page, 'text'), { body: text.join(' ') })
  }
  return text
}

/** Does something several times, and gives the median of its times. */
async function times (count, act) {
  const all = []
  for (let time = 0; time < count; time++) all.push(await act(time))
  return median(all)
}

const snapshotPath = page => `/api/pages/${page}/snapshot`

/** A rate that is asked of one live page. */
const live = (path, status, asWho = {}) => async running => {
  await writePage(running.server, 'page')
  await attend(running.server, 'page')
  const { headers } = await must(200, running.server, 'GET', path, asWho)
  const tag = status === 304 ? { 'if-none-match': headers.etag } : {}
  return rate(running.server, [{ path, headers: tag, ...asWho }], status)
}

/** 304 of pages that are not open, in turn. */
const closed = count => async running => {
  const paths = Array.from({ length: count }, (_, at) => contentPath(`page-${at}`, 'json'))
  for (const at of paths.keys()) await must(200, running.server, 'PUT', contentPath(`page-${at}`, 'text'), { body: words(1_000).join(' ') })
  await running.again()
  const requests = []
  for (const path of paths) {
    const { headers } = await must(200, running.server, 'GET', path)
    requests.push({ path, headers: { 'if-none-match': headers.etag } })
  }
  return rate(running.server, requests, 304)
}

/** The first read of maps with so many values of so many bytes, by a reader process that has answered for another page. */
const cold = (entries, bytes) => async running => {
  const text = words(entries * bytes).join(' ')
  const map = Object.fromEntries(Array.from({ length: entries }, (_, at) => [`key${at}`, text.slice(at * bytes, (at + 1) * bytes)]))
  const body = JSON.stringify({ map })
  const pages = Array.from({ length: 7 }, (_, at) => `page-${at}`)
  for (const page of pages) await must(200, running.server, 'PUT', contentPath(page, 'json'), { body })
  await running.again()
  await must(200, running.server, 'PUT', contentPath('other', 'text'), { body: 'a' })
  await must(200, running.server, 'GET', contentPath('other', 'json'))
  const read = async at => {
    const { body: answer, ms } = await must(200, running.server, 'GET', contentPath(pages[at], 'json'))
    if (answer.length !== body.length) throw new Error('it is another map')
    return ms
  }
  return { ms: await times(pages.length, read), bytes: body.length }
}

/** Saves of a text of 100 KB with another word changed each time, and a pause between them. */
const put = pause => async running => {
  const text = await writePage(running.server, 'page')
  const save = async at => {
    text[at * 89 % text.length] = `again${at}`
    const body = text.join(' ')
    await sleep(pause)
    return (await must(200, running.server, 'PUT', contentPath('page', 'text'), { body })).ms
  }
  return { ms: await times(50, save) }
}

const perSecond = { per_second: f => f.per_second, p99_ms: f => f.p99_ms, load_cpu: f => f.load_cpu }
const ms = { ms: f => f.ms }
const atLeast = (goal, least) => [goal, m => m.per_second, least, true]
const under = (goal, most) => [goal, m => m.ms, most, false]
const both = ['sqlite', 'postgres']

/** What is measured on which stores, and what must hold of the medians. */
const figures = [
  {
    name: 'snapshot',
    what: 'GET …/snapshot of a live page of 100 KB',
    run: live(snapshotPath('page'), 200),
    values: perSecond,
    goal: atLeast('snapshots/s', 5_000)
  },
  {
    name: 'unchanged',
    what: '304 of a live page',
    run: live(contentPath('page', 'json'), 304),
    values: perSecond,
    goal: atLeast('304/s, live', 20_000)
  },
  {
    name: 'unchanged-user',
    what: '304 of a live page, for a user with a token',
    run: live(contentPath('page', 'json'), 304, { token: userToken({ page: 'view' }) }),
    values: perSecond
  },
  {
    name: 'unchanged-closed',
    what: '304 of a page that is not open',
    stores: both,
    run: closed(1),
    values: perSecond,
    goal: atLeast('304/s, not open', 20_000)
  },
  {
    name: 'unchanged-many',
    what: '304 of 500 pages that are not open, in turn',
    stores: both,
    run: closed(500),
    values: perSecond,
    goal: atLeast('304/s, 500 not open', 20_000)
  },
  {
    name: 'content',
    what: 'GET …/content?format=json of a live page of 100 KB that does not change',
    run: live(contentPath('page', 'json'), 200),
    values: perSecond,
    goal: atLeast('contents/s', 5_000)
  },
  {
    name: 'cold',
    what: 'the first GET …/content?format=json of a map of 1 MB that is not open: 10,000 entries of 100 bytes',
    run: cold(10_000, 88),
    values: { ...ms, bytes: f => f.bytes },
    goal: under('cold JSON, ms', 60)
  },
  {
    name: 'cold-small',
    what: 'the same of 60,000 entries of 18 bytes',
    run: cold(60_000, 5),
    values: { ...ms, bytes: f => f.bytes }
  },
  {
    name: 'put',
    what: 'PUT …/content?format=text of 100 KB with one changed word, until it is stored, now and then',
    stores: both,
    run: put(60),
    values: ms,
    goal: under('PUT, ms', 15)
  },
  {
    // A busy store commits every PAGEROOM_COMMIT_INTERVAL_MILLISECONDS (33), for which the next PUT waits.
    name: 'put-again',
    what: 'the same, one after the other',
    stores: both,
    run: put(0),
    values: ms
  },
  {
    name: 'compare',
    what: 'GET …/compare of two versions of the automerge-paper page, half of it apart',
    run: async running => {
      const server = running.server
      const url = `ws://${server.address}/ws`
      const args = ['bench', 'replay', settings.trace, '--page', 'paper', '--url', url, '--token', userToken({ paper: 'edit' })]
      execFileSync('taskset', ['-c', settings.loadCpu, settings.pageroom, ...args], { stdio: 'ignore', timeout: 300_000 })
      const { seq } = JSON.parse((await must(200, server, 'GET', '/api/pages/paper')).body)
      const path = `/api/pages/paper/compare?from=${Math.floor(seq / 2)}&to=${seq}`
      return { ms: await times(15, async () => (await must(200, server, 'GET', path)).ms), rows: seq }
    },
    values: { ...ms, rows: f => f.rows },
    goal: under('comparison, ms', 200)
  },
  {
    name: 'nothing',
    what: 'GET /api/pages for a user who may see none of 100,000',
    stores: both,
    run: async running => {
      const { server } = running
      const source = join(server.folder, 'source.db')
      writeFileSync(source, '')
      const query = `WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000)
        SELECT 'page-' || i, x'0101010004010474657874016100' FROM n`
      await server.child.stop()
      const env = { ...process.env, DATABASE_URL: server.databaseUrl }
      execFileSync(settings.pageroom, ['import', `sqlite://${source}`, '--query', query], { env, stdio: 'ignore', timeout: 1_800_000 })
      await running.again()
      const all = await must(200, running.server, 'GET', '/api/pages?limit=1000&after=page-99')
      if (JSON.parse(all.body).pages.length === 0) throw new Error('there are no pages')
      const token = userToken({})
      const list = await times(31, async () => {
        const { body, ms } = await must(200, running.server, 'GET', '/api/pages', { token })
        if (JSON.parse(body).pages.length) throw new Error('somebody sees a page')
        return ms
      })
      return { ms: list }
    },
    values: ms,
    goal: under('listing, ms', 20)
  }
]

async function measure (figure) {
  console.log(`\n## ${figure.name}: ${figure.what}\n`)
  console.log(`| | ${Object.keys(figure.values).join(' | ')} |`)
  console.log(`|---|${Object.keys(figure.values).map(() => '---').join('|')}|`)
  const stores = (figure.stores ?? ['sqlite']).filter(store => store !== 'postgres' || settings.postgres !== undefined)
  const runs = Object.fromEntries(stores.map(store => [store, []]))
  for (let run = 0; run < settings.runs; run++) {
    for (const store of stores) runs[store].push(await withServer(store, figure.run))
  }
  const goals = []
  const medians = {}
  for (const store of stores) {
    medians[store] = Object.fromEntries(Object.entries(figure.values).map(([name, pick]) => [name, median(runs[store].map(pick))]))
    console.log(`| ${store} | ${Object.values(medians[store]).map(shown).join(' | ')} |`)
    if (!figure.goal) continue
    const [goal, pick, bound, isLeast] = figure.goal
    const value = pick(medians[store])
    goals.push({ goal: `${goal}, ${store}`, value, bound: `${isLeast ? 'at least' : 'under'} ${bound}`, met: isLeast ? value >= bound : value < bound })
  }
  return { name: figure.name, medians, goals, runs }
}

const chosen = figures.filter(figure => !settings.only || settings.only.includes(figure.name))
const results = []
for (const figure of chosen) {
  results.push(await measure(figure))
  if (settings.out) writeFileSync(settings.out, JSON.stringify(results, null, 1))
}
const goals = results.flatMap(result => result.goals)
console.log('\n| figure | measured | target | |\n|---|---|---|---|')
for (const { goal, value, bound, met } of goals) console.log(`| ${goal} | ${shown(value)} | ${bound} | ${met ? 'met' : 'NOT MET'} |`)
process.exitCode = goals.every(goal => goal.met) ? 0 : 1
