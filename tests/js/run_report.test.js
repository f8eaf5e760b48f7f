// What `tests/run` leaves out and names as failed: parts that lack something, why the image is left out, and each test that failed and no
// other, from what either reporter of Node says and what cargo says.

import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, realpathSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'

const RUN = readFileSync(join(import.meta.dirname, '../run'), 'utf8')
const FUNCTION = /^failures_in\(\) \{\n.*?\n\}$/ms.exec(RUN)[0]
const ENGINE = /^container_engine\(\) \{\n.*?\n\}$/ms.exec(RUN)[0]
const SAMPLE = `
const { test, describe } = require('node:test')
const fail = () => { throw new Error('no') }
test('passes', () => {})
test('is known to fail', { todo: 'some day' }, fail)
test('fails', fail)
describe('group', () => {
  test('is known to fail there', { todo: true }, fail)
  test('fails there', fail)
})
`

const folder = mkdtempSync(join(tmpdir(), 'pageroom-report-'))
after(() => rmSync(folder, { recursive: true, force: true }))

function failuresIn (log) {
  const file = join(folder, 'step.log')
  writeFileSync(file, log)
  return execFileSync('bash', ['-c', `${FUNCTION}\nfailures_in "$1"`, 'bash', file], { encoding: 'utf8' }).split('\n').filter(Boolean)
}

for (const reporter of ['spec', 'tap']) {
  test(`tests that fail are named from the reporter ${reporter}, and those that are known to fail are not`, () => {
    writeFileSync(join(folder, 'sample.test.cjs'), SAMPLE)
    // Not as a part of this run.
    const { NODE_TEST_CONTEXT, ...env } = process.env
    const { stdout, status } = spawnSync(process.execPath, ['--test', `--test-reporter=${reporter}`, 'sample.test.cjs'], { cwd: folder, env, encoding: 'utf8' })
    assert.equal(status, 1)
    assert.deepEqual(failuresIn(stdout).map(line => line.replace(/ \(.*/, '')), ['fails', 'fails there'])
  })
}

test('tests that fail are named from cargo', () => {
  assert.deepEqual(failuresIn('test a::b ... ok\ntest a::c ... FAILED\ntest d ... ignored\n'), ['a::c'])
})

// A machine of its own: Rust, a C compiler and what every system has, with `programs` beside them, and nothing in the other places where
// programs are looked for. Gives what the script says up to where it begins, or to the end of `--list`, and what it has made up its mind to do.
let machines = 0
function prepared (programs, args = [], env = {}) {
  const home = join(folder, `machine-${++machines}`)
  const bin = join(home, 'bin')
  for (const path of [bin, join(home, 'tests'), join(home, 'tmp')]) mkdirSync(path, { recursive: true })
  for (const name of ['awk', 'bash', 'chmod', 'dirname', 'find', 'grep', 'head', 'ls', 'mkdir', 'mktemp', 'realpath', 'rm', 'sort', 'uname', 'sh']) {
    symlinkSync(realpathSync(execFileSync('which', [name], { encoding: 'utf8' }).trim()), join(bin, name))
  }
  for (const [name, script] of Object.entries({ cargo: 'exit 1', cc: 'exit 1', ...programs })) {
    writeFileSync(join(bin, name), `#!/bin/sh\n${script}\n`)
    chmodSync(join(bin, name), 0o755)
  }
  const script = RUN.replace(/^prepare\n.*/ms, 'prepare\necho "RUNS ${PARTS[*]}"\nprintf "FAILED %s\\n" "${FAILURES[@]}"\nnode --version\n')
    .replace('/usr/lib/postgresql/', `${home}/none/`).replace(':/usr/sbin:/sbin', '')
  const body = script.slice(script.indexOf('\n'))
  assert.ok(!body.includes('start_postgres\n') && !body.includes('/usr/'), 'it begins nothing, and looks nowhere else')
  writeFileSync(join(home, 'tests/run'), script)
  const options = { env: { PATH: bin, TMPDIR: join(home, 'tmp'), CARGO_TARGET_DIR: join(home, 'target'), ...env }, encoding: 'utf8' }
  const { stdout, stderr, status } = spawnSync(join(bin, 'bash'), [join(home, 'tests/run'), ...args], options)
  const lines = stdout.split('\n')
  return {
    stdout,
    stderr,
    status,
    runs: lines.filter(line => line.startsWith('RUNS ')).join().slice(5),
    failed: lines.filter(line => line.startsWith('FAILED ')).map(line => line.slice(7)).filter(Boolean)
  }
}

const NODE = version => ({ node: `[ "$1" = --version ] && echo v${version} && exit; exit ${version.startsWith('1') ? 1 : 0}`, npm: 'exit 1' })
const POSTGRES = { initdb: 'exit 1', pg_ctl: 'exit 1' }
const ASIDE = { curl: 'exit 1', pgbouncer: 'exit 1', nginx: 'exit 1', haproxy: 'exit 1', python3: 'exit 0' }

test('each part that lacks something is left out with what it lacks, and the others run', () => {
  const bare = prepared({})
  assert.equal(bare.runs, 'image')
  assert.deepEqual(bare.failed, [
    'rust: cannot run: please install postgresql curl pgbouncer nginx-light haproxy python3 python3-venv',
    'js: cannot run: please install postgresql nodejs npm',
    'openapi: cannot run: please install nodejs npm python3 python3-venv',
    'editors: cannot run: please install nodejs npm chromium',
    'demo: cannot run: please install nodejs npm',
    'browser: cannot run: please install nodejs npm chromium',
    'examples: cannot run: please install nodejs npm chromium'
  ])
  const noChromium = prepared({ ...NODE('22.1.0'), ...POSTGRES, ...ASIDE })
  assert.equal(noChromium.runs, 'rust js openapi demo image')
  assert.deepEqual(noChromium.failed, ['editors', 'browser', 'examples'].map(part => `${part}: cannot run: please install chromium`))
  const noPostgres = prepared({ ...NODE('22.1.0'), ...ASIDE, chromium: 'exit 0' })
  assert.equal(noPostgres.runs, 'openapi editors demo browser examples image')
  assert.deepEqual(noPostgres.failed, ['rust', 'js'].map(part => `${part}: cannot run: please install postgresql`))
  // What is not asked for is not missed.
  const asked = prepared(NODE('22.1.0'), ['demo'])
  assert.equal(asked.runs, 'demo')
  assert.deepEqual(asked.failed, [])
  const whole = prepared({ ...NODE('22.1.0'), ...POSTGRES, ...ASIDE, chromium: 'exit 0' })
  assert.equal(whole.runs, 'rust js openapi editors demo browser examples image')
  assert.deepEqual(whole.failed, [])
})

test('a snap of Chromium is none', () => {
  const snap = prepared({ ...NODE('22.1.0'), chromium: 'exec /snap/bin/chromium' }, ['browser'])
  assert.deepEqual(snap.failed, ['browser: cannot run: please install chromium'])
})

test('a Node that is too old is replaced by one that npm brings, once', () => {
  const npm = `
    echo "npm $*" >&2
    for word; do case "$word" in --prefix) is_next=yes ;; *) [ -z "$is_next" ] || { prefix=$word; is_next=; } ;; esac; done
    for word; do package=\${word%@*}; done
    mkdir -p "$prefix/node_modules/$package/bin"
    printf '#!/bin/sh\\n[ "$1" = --version ] && echo v20.19.1\\nexit 0\\n' > "$prefix/node_modules/$package/bin/node"
    chmod +x "$prefix/node_modules/$package/bin/node"`
  const target = join(folder, 'target')
  const brought = prepared({ ...NODE('18.20.4'), npm }, ['demo'], { CARGO_TARGET_DIR: target })
  assert.equal(brought.runs, 'demo', brought.stderr)
  assert.deepEqual(brought.failed, [])
  assert.match(brought.stdout, /bringing Node 20/)
  assert.match(brought.stderr, /npm install --prefix \S*target\/node .*--ignore-scripts .*node-linux-(x64|arm64)@20/)
  assert.match(brought.stdout, /^v20\.19\.1$/m, 'it is the one that is used')
  const again = prepared({ ...NODE('18.20.4'), npm: 'exit 1' }, ['demo'], { CARGO_TARGET_DIR: target })
  assert.equal(again.runs, 'demo', again.stderr)
  assert.doesNotMatch(again.stdout, /bringing Node/)
  const alone = prepared({ ...NODE('18.20.4'), ...POSTGRES, ...ASIDE, npm: 'exit 1' }, ['rust', 'js', 'demo'])
  assert.equal(alone.runs, 'rust')
  assert.deepEqual(alone.failed, ['js', 'demo'].map(part => `${part}: cannot run: Node 20.19 or newer is needed, this is v18.20.4`))
})

test('what can run is listed, and nothing is installed or run', () => {
  const npm = 'echo installed; exit 0'
  const listed = prepared({ ...NODE('18.20.4'), ...POSTGRES, npm, 'apt-get': npm, sudo: npm }, ['--list'])
  assert.equal(listed.status, 0)
  assert.deepEqual(listed.stdout.split('\n').filter(Boolean), [
    'rust: needs curl pgbouncer nginx-light haproxy python3 python3-venv',
    'js: can run, with a Node that npm brings (this is v18.20.4)',
    'openapi: needs python3 python3-venv',
    'editors: needs chromium',
    'demo: can run, with a Node that npm brings (this is v18.20.4)',
    'browser: needs chromium',
    'examples: needs chromium',
    'image: is left out: there is no docker, and there is no podman'
  ])
  const all = prepared({ ...NODE('22.1.0'), ...POSTGRES, ...ASIDE }, ['--list', 'rust', 'demo'])
  assert.deepEqual(all.stdout.split('\n').filter(Boolean), ['rust: can run', 'demo: can run'])
  const unknown = prepared({}, ['--list', 'rusty'])
  assert.equal(unknown.status, 2)
  assert.match(unknown.stderr, /no part called rusty/)
})

test('a step that has used four fifths of its time is named, and fails where changes are checked', () => {
  const note = /^note_limit\(\) \{\n.*?\n\}$/ms.exec(RUN)[0]
  const noted = env => {
    const script = `FAILED=0 FAILED_STEPS=() FAILURES=() NEAR=()\n${note}
      note_limit quick 239 5; note_limit slow 240 5
      echo "$FAILED \${FAILED_STEPS[*]}"; printf '%s\\n' "\${NEAR[@]}" "\${FAILURES[@]}"`
    return execFileSync('bash', ['-c', script], { env: { PATH: process.env.PATH, ...env }, encoding: 'utf8' }).split('\n').filter(line => line.trim())
  }
  const near = 'slow took 240 s of 5 minutes: its limit is too near'
  assert.deepEqual(noted({}), ['0 ', `WARNING: ${near}`])
  assert.deepEqual(noted({ CI: 'true' }), ['1 slow', near])
})

const ANSWERS = 'echo Server; exit 0'
const SILENT = 'echo Client; echo "first line" >&2; echo "Cannot connect to the daemon" >&2; exit 1'
for (const [there, status, said] of [
  [{ docker: ANSWERS, podman: ANSWERS }, 0, 'docker'],
  [{ docker: SILENT, podman: ANSWERS }, 0, 'podman'],
  [{ podman: ANSWERS }, 0, 'podman'],
  [{ docker: SILENT }, 1, 'docker does not answer (Cannot connect to the daemon), and there is no podman'],
  [{}, 1, 'there is no docker, and there is no podman']
]) {
  test(`what an image is built with, or why it is not: ${said}`, () => {
    const programs = mkdtempSync(join(folder, 'programs-'))
    for (const [name, script] of Object.entries(there)) writeFileSync(join(programs, name), `#!/bin/sh\n${script}\n`, { mode: 0o755 })
    const timeout = execFileSync('sh', ['-c', 'command -v timeout'], { encoding: 'utf8' }).trim()
    writeFileSync(join(programs, 'timeout'), `#!/bin/sh\nexec ${timeout} "$@"\n`, { mode: 0o755 })
    const run = spawnSync('/bin/bash', ['-c', `${ENGINE}\ncontainer_engine`], { env: { PATH: programs }, encoding: 'utf8' })
    assert.deepEqual([run.status, run.stdout.trim()], [status, said], run.stderr)
  })
}
