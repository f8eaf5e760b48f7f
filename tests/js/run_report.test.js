// What `tests/run` names as failed: each test that failed and no other, from what either reporter of Node says and what cargo says.

import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'

const FUNCTION = /^failures_in\(\) \{\n.*?\n\}$/ms.exec(readFileSync(join(import.meta.dirname, '../run'), 'utf8'))[0]
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
