// The npm package: packed from a server that is built, installed from its files into an empty folder, and run as a newcomer does.

import assert from 'node:assert/strict'
import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, afterEach, before, test } from 'node:test'
import { promisify } from 'node:util'

import { binary, freePort } from './support/server.js'
import { until, within } from './support/wait.js'

const run = promisify(execFile)
const ROOT = join(import.meta.dirname, '../..')
const PLATFORM = `${process.platform}-${process.arch}`
const VERSION = /^version = "(.+)"$/m.exec(readFileSync(join(ROOT, 'Cargo.toml'), 'utf8'))[1]
const OFFLINE = ['--offline', '--no-audit', '--no-fund', '--loglevel=error']

let work, installed
/** Processes that have been started, each with its own group. */
const started = new Set()

before(async () => {
  work = mkdtempSync(join(tmpdir(), 'pageroom-npm-'))
  const packed = join(work, 'packed')
  await run(join(ROOT, 'deploy/npm-pack'), [packed, `${PLATFORM}=${binary()}`])
  installed = join(work, 'installed')
  mkdirSync(installed)
  const files = readdirSync(packed).map(file => join(packed, file))
  assert.equal(files.length, 2)
  await run('npm', ['install', ...OFFLINE, ...files], { cwd: installed })
})
afterEach(() => {
  for (const child of started) {
    try {
      process.kill(-child.pid, 'SIGKILL')
    } catch {
      // it has ended
    }
  }
  started.clear()
})
after(() => { if (work) rmSync(work, { recursive: true, force: true }) })

/** Starts a server and waits until it is ready. */
async function start (command, ...args) {
  const port = await freePort()
  const child = spawn(command, args, {
    cwd: installed, detached: true, stdio: ['ignore', 'ignore', 'pipe'],
    env: { PATH: process.env.PATH, HOME: process.env.HOME, PORT: String(port) }
  })
  started.add(child)
  let log = ''
  child.stderr.on('data', chunk => { log += chunk })
  const ended = once(child, 'exit').then(([code, signal]) => ({ code, signal }))
  const url = `http://127.0.0.1:${port}`
  const answers = () => fetch(`${url}/readyz`).then(({ status }) => status === 200, () => false)
  await until(() => `the server is ready\n${log}`, answers)
  return { child, ended, answers }
}

test('npx pageroom says its version, and ends as the server ends', async () => {
  const { stdout } = await run('npx', ['--offline', 'pageroom', '--version'], { cwd: installed })
  assert.equal(stdout, `pageroom ${VERSION}\n`)
  const refused = await run('npx', ['--offline', 'pageroom', 'no-such-command'], { cwd: installed }).catch(error => error)
  assert.equal(refused.code, 2)
})

test('npx pageroom serves until Ctrl+C', async () => {
  const { child, ended, answers } = await start('npx', '--offline', 'pageroom')
  assert.ok(readdirSync(installed).includes('pageroom.db'), 'pages are kept where it was started')
  // The terminal tells everybody in the foreground.
  process.kill(-child.pid, 'SIGINT')
  await within('it ends', ended, 30_000)
  await until('the server has ended', async () => !(await answers()))
})

for (const signal of ['SIGTERM', 'SIGINT']) {
  test(`${signal} reaches the server, which stores what is unwritten and ends with 0`, async () => {
    const { child, ended, answers } = await start(join(installed, 'node_modules/.bin/pageroom'))
    child.kill(signal)
    assert.deepEqual(await within('it ends', ended, 30_000), { code: 0, signal: null })
    assert.equal(await answers(), false)
  })
}

test('a server that is killed is seen to be killed', async () => {
  const { child, ended } = await start(join(installed, 'node_modules/.bin/pageroom'))
  const { stdout } = await run('ps', ['-o', 'pid=,comm=', '--ppid', String(child.pid)])
  process.kill(parseInt(stdout), 'SIGKILL')
  assert.deepEqual(await within('it ends', ended, 30_000), { code: null, signal: 'SIGKILL' })
})

test('where there is no server for the platform, it says what to do', async () => {
  const bare = join(work, 'bare')
  mkdirSync(bare)
  const file = readdirSync(join(work, 'packed')).find(name => name === `pageroom-${VERSION}.tgz`)
  await run('npm', ['install', ...OFFLINE, '--omit=optional', join(work, 'packed', file)], { cwd: bare })
  const refused = await run(join(bare, 'node_modules/.bin/pageroom'), ['--version']).catch(error => error)
  assert.equal(refused.code, 1)
  assert.match(refused.stderr, new RegExp(`^pageroom: there is no server for ${PLATFORM} here\\. .*--omit=optional`))
})
