// PostgreSQL of one's own: databases on the server that the test run was given, or a whole cluster to be stopped and started.

import { execFile, spawn } from 'node:child_process'
import { mkdtempSync, rmSync, chownSync, readFileSync } from 'node:fs'
import { tmpdir, userInfo } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'

import { Server, freePort } from './server.js'
import { until } from './wait.js'

const run = promisify(execFile)

/** Where the server programs are; undefined when the run has no PostgreSQL. */
export const POSTGRES_BIN = process.env.PAGEROOM_TEST_POSTGRES_BIN
/** A URL of a superuser on a running server; undefined when the run has none. */
export const POSTGRES_URL = process.env.PAGEROOM_TEST_DATABASE_URL

const isRoot = userInfo().uid === 0

/** Runs a program as somebody who may run PostgreSQL, which refuses to be root. */
function asPostgres (program, args) {
  return isRoot ? ['runuser', ['-u', 'postgres', '--', program, ...args]] : [program, args]
}

/** Runs one SQL command and gives its output. */
export async function sql (url, command) {
  const program = POSTGRES_BIN ? join(POSTGRES_BIN, 'psql') : 'psql'
  const { stdout } = await run(program, ['-X', '-q', '-A', '-t', '-v', 'ON_ERROR_STOP=1', '-d', url, '-c', command])
  return stdout.trim()
}

let databases = 0

/** Creates an empty database on the given server and gives its URL. */
export async function freshDatabase (url = POSTGRES_URL) {
  const name = `pageroom_js_${process.pid}_${++databases}`
  await sql(url, `CREATE DATABASE ${name}`)
  const own = new URL(url)
  own.pathname = `/${name}`
  return own.href
}

export async function dropDatabase (own, url = POSTGRES_URL) {
  await sql(url, `DROP DATABASE IF EXISTS ${new URL(own).pathname.slice(1)} WITH (FORCE)`)
}

/** A server on a database of its own, for one test; afterwards the cluster is up again. */
export async function serverOnFreshDatabase (t, cluster, env) {
  const url = await freshDatabase(cluster.url)
  const server = await Server.start({ databaseUrl: url, env })
  t.after(async () => {
    await server.dispose()
    await cluster.up()
    await dropDatabase(url, cluster.url)
  })
  return { server, url }
}

/** A cluster that belongs to one test. */
export class Cluster {
  static async start () {
    const cluster = new Cluster()
    cluster.directory = mkdtempSync(join(tmpdir(), 'pageroom-postgres-'))
    if (isRoot) {
      const { stdout } = await run('id', ['-u', 'postgres'])
      chownSync(cluster.directory, Number(stdout), -1)
    }
    cluster.data = join(cluster.directory, 'data')
    cluster.port = await freePort()
    await cluster.program('initdb', '-D', cluster.data, '-U', 'postgres', '-A', 'trust', '-E', 'UTF8', '--no-sync')
    await cluster.up()
    return cluster
  }

  get url () { return `postgres://postgres@127.0.0.1:${this.port}/postgres` }

  async program (name, ...args) {
    const [program, all] = asPostgres(join(POSTGRES_BIN, name), args)
    return run(program, all, { cwd: this.directory })
  }

  /** Starts it and waits until it answers; it may be running already. */
  async up () {
    if (this.running) return
    const options = `-p ${this.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories=${this.directory}`
    await this.program('pg_ctl', '-D', this.data, '-w', '-t', '60', '-l', join(this.directory, 'log'), '-o', options, 'start')
    this.running = true
  }

  /** Stops at once, as a crash would: connections break, recovery follows at the next start. */
  async down () {
    this.running = false
    await this.program('pg_ctl', '-D', this.data, '-w', '-m', 'immediate', 'stop')
  }

  /** The process id of its first process. */
  get pid () { return Number(readFileSync(join(this.data, 'postmaster.pid'), 'utf8').split('\n')[0]) }

  /** Holds a lock on all tables of a database until the returned function is called. */
  async lockTables (url) {
    const tables = await sql(url, "SELECT string_agg(format('%I.%I', schemaname, tablename), ', ') FROM pg_tables WHERE schemaname = 'public'")
    const psql = spawn(join(POSTGRES_BIN, 'psql'), ['-X', '-q', '-A', '-t', '-d', url], { stdio: ['pipe', 'pipe', 'inherit'] })
    let output = ''
    psql.stdout.on('data', data => { output += data })
    psql.stdin.write(`BEGIN; LOCK TABLE ${tables} IN ACCESS EXCLUSIVE MODE; SELECT 'locked';\n`)
    await until('the tables are locked', () => output.includes('locked'))
    return () => new Promise(resolve => {
      psql.once('exit', resolve)
      psql.stdin.end('COMMIT;\n')
    })
  }

  async dispose () {
    await this.down().catch(() => {})
    rmSync(this.directory, { recursive: true, force: true })
  }
}
