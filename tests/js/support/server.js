// A Pageroom of one's own: the real binary on a free port with a store that is thrown away.

import { spawn, execFile } from 'node:child_process'
import { createServer } from 'node:net'
import { mkdtempSync, rmSync, openSync, closeSync, readFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'

import { until, within } from './wait.js'

/** Bearer token of the backend in every test. */
export const ADMIN_TOKEN = 'admin-token-of-the-tests-0123456789abcdef'

/** The binary under test. */
export function binary () {
  const path = process.env.PAGEROOM_BIN
  if (!path) throw new Error('PAGEROOM_BIN must name the pageroom binary under test')
  return path
}

// Below the range from which the system takes ports of outgoing connections, so that nothing slips in between a kill
// and a restart; each test process has a stretch of its own.
let nextPort = 11_000 + (process.pid % 200) * 100

/** A port on which nothing listens. */
export async function freePort () {
  for (let tries = 0; tries < 100; tries++) {
    const port = nextPort++
    const free = await new Promise(resolve => {
      const probe = createServer()
      probe.once('error', () => resolve(false))
      probe.listen(port, '127.0.0.1', () => probe.close(() => resolve(true)))
    })
    if (free) return port
  }
  throw new Error('no free port')
}

export class Server {
  /**
   * @param {object} options
   * @param {string} [options.databaseUrl] default: an SQLite file in the server's own folder
   * @param {Record<string, string>} [options.env] settings beside the usual ones
   */
  static async start ({ databaseUrl, env = {} } = {}) {
    const server = new Server()
    server.directory = mkdtempSync(join(tmpdir(), 'pageroom-test-'))
    server.databaseUrl = databaseUrl ?? `sqlite://${join(server.directory, 'pages.db')}`
    server.port = await freePort()
    server.env = {
      PATH: process.env.PATH,
      HOST: '127.0.0.1',
      PORT: String(server.port),
      DATABASE_URL: server.databaseUrl,
      PAGEROOM_ADMIN_TOKEN: ADMIN_TOKEN,
      ...(env.JWT_SECRET === undefined ? { PAGEROOM_AUTH: 'open' } : {}),
      ...env
    }
    server.logPath = join(server.directory, 'server.log')
    server.child = null
    server.expected = false
    server.unexpectedEnd = null
    await server.launch()
    return server
  }

  get url () { return `http://127.0.0.1:${this.port}` }
  get socketUrl () { return `ws://127.0.0.1:${this.port}/ws` }

  /** Starts the process without waiting for it to be ready. */
  spawn () {
    const log = openSync(this.logPath, 'a')
    const child = spawn(binary(), ['serve'], {
      env: this.env, cwd: this.directory, stdio: ['ignore', log, log]
    })
    closeSync(log)
    this.child = child
    this.expected = false
    this.ended = new Promise(resolve => {
      child.once('error', error => resolve({ error }))
      child.once('exit', (code, signal) => resolve({ code, signal }))
    })
    this.ended.then(end => {
      if (!this.expected) this.unexpectedEnd = end
      if (this.child === child) this.child = null
    })
  }

  /** Starts the process and waits until it is ready. */
  async launch () {
    this.spawn()
    await until(() => `the server is ready\n${this.log()}`, async () => {
      if (this.unexpectedEnd) throw new Error(`the server did not start: ${this.describeEnd()}`)
      return (await this.readiness()) === 200
    })
  }

  /** Status of /readyz, or undefined while nothing answers. */
  async readiness () {
    try {
      const response = await fetch(`${this.url}/readyz`, { signal: AbortSignal.timeout(2_000) })
      await response.arrayBuffer()
      return response.status
    } catch {
      return undefined
    }
  }

  /** Ends the process as a power cut would. */
  async kill () {
    this.expected = true
    this.child?.kill('SIGKILL')
    await this.ended
  }

  /** Starts it again on the same port and the same store. */
  async restart () {
    if (this.child) await this.kill()
    await this.launch()
  }

  /** Asks it to stop; gives how it ended and how long that took. */
  async stop (withinMs = 15_000) {
    if (this.unexpectedEnd) throw new Error(`the server had ended by itself: ${this.describeEnd()}`)
    const from = performance.now()
    this.expected = true
    this.child?.kill('SIGTERM')
    const end = await within(() => 'the server stops', this.ended, withinMs)
    return { ...end, elapsedMs: performance.now() - from }
  }

  /** Ends the process and removes what it left; fails when it had ended by itself. */
  async dispose () {
    const failed = this.unexpectedEnd && this.describeEnd()
    await this.kill()
    if (!process.env.PAGEROOM_TEST_KEEP) rmSync(this.directory, { recursive: true, force: true })
    if (failed) throw new Error(`the server ended by itself: ${failed}`)
  }

  describeEnd () {
    const { code, signal, error } = this.unexpectedEnd
    return `${error ?? `code ${code}, signal ${signal}`}\n${this.log()}`
  }

  /** The end of its log. */
  log () {
    try {
      return readFileSync(this.logPath, 'utf8').slice(-4_000)
    } catch {
      return '(no log)'
    }
  }

  /** A request to the REST surface as the backend. */
  async api (path, { token = ADMIN_TOKEN, ...init } = {}) {
    return fetch(`${this.url}${path}`, {
      ...init,
      headers: { ...(token ? { authorization: `Bearer ${token}` } : {}), ...init.headers },
      signal: AbortSignal.timeout(20_000)
    })
  }

  /** The content of a page as JSON; `{}` when there is no such page. */
  async content (page) {
    const response = await this.api(`/api/pages/${encodeURIComponent(page)}/content?format=json`)
    if (response.status === 404) return {}
    if (response.status !== 200) throw new Error(`content: ${response.status} ${await response.text()}`)
    return response.json()
  }

  /** The merged snapshot of a page as one update; undefined when there is no such page. */
  async snapshot (page) {
    const response = await this.api(`/api/pages/${encodeURIComponent(page)}/snapshot`)
    if (response.status === 404) return undefined
    if (response.status !== 200) throw new Error(`snapshot: ${response.status} ${await response.text()}`)
    return new Uint8Array(await response.arrayBuffer())
  }

  /** Runs another command of the binary with the settings of this server. */
  async command (...args) {
    return promisify(execFile)(binary(), args, { env: this.env, cwd: this.directory })
  }
}
