// A Pageroom of one's own for a test: on a free port, with a store in a temporary file, and a plug that can be pulled.

import { execFileSync, spawn } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'

const BIN = process.env.PAGEROOM_BIN
const START_MS = 20_000

export class Server {
  #env
  #directory
  /** @type {import('node:child_process').ChildProcess | undefined} */
  #process
  #stderr = ''

  /** @param {string} directory @param {number} port @param {Record<string, string>} env */
  constructor(directory, port, env) {
    this.#directory = directory
    this.origin = `http://127.0.0.1:${port}`
    this.#env = {
      PATH: process.env.PATH,
      HOST: '127.0.0.1',
      PORT: String(port),
      DATABASE_URL: `sqlite://${join(directory, 'pages.db')}`,
      ...env,
    }
  }

  /** @param {Record<string, string>} [env] more settings */
  static async start(env = {}) {
    if (!BIN) throw new Error('PAGEROOM_BIN must name the server to test')
    const directory = await mkdtemp(join(tmpdir(), 'pageroom-demo-'))
    const server = new Server(directory, await freePort(), env)
    await server.start()
    return server
  }

  async start() {
    const child = spawn(/** @type {string} */ (BIN), [], { env: this.#env, cwd: this.#directory, stdio: ['ignore', 'ignore', 'pipe'] })
    this.#process = child
    child.stderr?.on('data', (chunk) => (this.#stderr = (this.#stderr + chunk).slice(-4000)))
    const deadline = Date.now() + START_MS
    while (!(await this.#isReady())) {
      if (child.exitCode !== null || Date.now() > deadline) throw new Error(`the server does not start:\n${this.#stderr}`)
      await pause(50)
    }
  }

  async #isReady() {
    return fetch(`${this.origin}/readyz`).then(
      (response) => response.ok,
      () => false,
    )
  }

  /** The end of what it has logged. */
  get log() {
    return this.#stderr
  }

  /** Whether it has ended by itself, and well. */
  get hasEnded() {
    return this.#process?.exitCode === 0
  }

  /** @param {NodeJS.Signals} signal */
  signal(signal) {
    this.#process?.kill(signal)
  }

  /** As when the plug is pulled. */
  async kill() {
    const child = this.#process
    if (!child || child.exitCode !== null || child.signalCode !== null) return
    const gone = new Promise((resolve) => child.once('exit', resolve))
    child.kill('SIGKILL')
    await gone
  }

  async stop() {
    await this.kill()
    await rm(this.#directory, { recursive: true })
  }

  /** @param {string[]} args of the command that mints a token */
  token(...args) {
    return execFileSync(/** @type {string} */ (BIN), ['token', ...args], { env: this.#env, encoding: 'utf8' }).trim()
  }
}

/** @returns {Promise<number>} */
function freePort() {
  return new Promise((resolve, reject) => {
    const probe = createServer()
    probe.once('error', reject)
    probe.listen(0, '127.0.0.1', () => {
      const address = probe.address()
      probe.close(() => resolve(typeof address === 'object' && address ? address.port : 0))
    })
  })
}
