// What figures are measured with: the settings that they share, programs on a core of their own, a throw-away PostgreSQL, and medians.

import { execFileSync, spawn } from 'node:child_process'
import { chownSync, closeSync, openSync, readFileSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { userInfo } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { setTimeout as later } from 'node:timers'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'

export const root = resolve(dirname(fileURLToPath(import.meta.url)), '../..')
export const target = process.env.CARGO_TARGET_DIR ?? join(root, 'target')
export const settings = {
  runs: Number(process.env.RUNS ?? 3),
  only: process.env.ONLY?.split(','),
  out: process.env.OUT,
  serverCpu: process.env.SERVER_CPU ?? '0',
  loadCpu: process.env.LOAD_CPU ?? '1',
  priority: process.env.PRIORITY,
  pageroom: process.env.PAGEROOM_BIN ?? join(target, 'release/pageroom'),
  postgres: process.env.PAGEROOM_TEST_POSTGRES_BIN,
  trace: process.env.TRACE ?? join(root, 'tests/traces/automerge-paper.json.gz')
}
const firstPort = 24100
let ports = 0
export const freshPort = () => firstPort + (ports++ % 800)

/** A child process that is ended by its id, and whose output goes to a file. */
export class Child {
  constructor (program, args, { cpu, env = {}, log, user }) {
    const output = openSync(log, 'a')
    this.log = log
    const command = [
      'taskset', '-c', cpu,
      ...(settings.priority ? ['chrt', '-r', settings.priority] : []),
      // The user is changed last: a real-time priority is for the administrator to give.
      ...(user ? ['setpriv', `--reuid=${user}`, `--regid=${user}`, '--clear-groups'] : []),
      program, ...args
    ]
    this.process = spawn(command[0], command.slice(1), { env: { ...process.env, ...env }, stdio: ['ignore', output, output] })
    closeSync(output)
    this.ended = new Promise(resolve => this.process.once('exit', resolve))
    this.process.once('error', error => { this.failure = error })
  }

  async listening (port) {
    for (let tries = 0; tries < 300; tries++) {
      if (this.failure) throw this.failure
      if (this.process.exitCode !== null) break
      if (await accepts(port)) return
      await sleep(50)
    }
    throw new Error(`nothing listens on port ${port}:\n${readFileSync(this.log, 'utf8').slice(-2000)}`)
  }

  async stop (signal = 'SIGTERM') {
    if (this.process.exitCode === null && this.process.signalCode === null) {
      this.process.kill(signal)
      const late = later(() => this.process.kill('SIGKILL'), 20_000)
      await this.ended
      clearTimeout(late)
    }
  }
}

function accepts (port) {
  return new Promise(resolve => {
    const socket = connect({ host: '127.0.0.1', port })
    socket.once('connect', () => { socket.destroy(); resolve(true) })
    socket.once('error', () => resolve(false))
  })
}

/** A PostgreSQL of its own, on the server's core. */
export async function startPostgres (folder) {
  const data = join(folder, 'postgres')
  const port = freshPort()
  // PostgreSQL refuses to run as the administrator.
  const user = userInfo().uid === 0 ? 'postgres' : undefined
  const [uid, gid] = user ? ['-u', '-g'].map(flag => Number(execFileSync('id', [flag, user]))) : []
  if (user) chownSync(folder, uid, gid)
  const init = ['-D', data, '-U', 'pageroom', '--auth=trust', '--no-instructions']
  execFileSync(join(settings.postgres, 'initdb'), init, { uid, gid, stdio: 'ignore', timeout: 60_000, cwd: folder })
  const options = ['-D', data, '-p', String(port), '-k', folder, '-c', 'listen_addresses=127.0.0.1']
  const log = join(folder, 'postgres.log')
  writeFileSync(log, '')
  const child = new Child(join(settings.postgres, 'postgres'), options, { cpu: settings.serverCpu, log, user })
  await child.listening(port)
  for (let tries = 0; ; tries++) {
    try {
      const args = ['-h', '127.0.0.1', '-p', String(port), '-U', 'pageroom', '-d', 'postgres', '-c', 'create database pageroom']
      execFileSync(join(settings.postgres, 'psql'), args, { stdio: 'ignore', timeout: 10_000 })
      break
    } catch (error) {
      if (tries === 100) throw error
      await sleep(100)
    }
  }
  return { child, url: `postgres://pageroom@127.0.0.1:${port}/pageroom` }
}

export const median = values => {
  const sorted = values.filter(value => Number.isFinite(value)).sort((a, b) => a - b)
  return sorted.length ? (sorted[(sorted.length - 1) >> 1] + sorted[sorted.length >> 1]) / 2 : undefined
}

export const shown = value => value === undefined || Number.isNaN(value) ? '–' : String(Number(value.toPrecision(4)))
