// What a server answers is what /openapi.json says: schemathesis makes requests from the description, good ones and bad ones, and looks at
// the answers.

import { spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { after, before, test } from 'node:test'
import assert from 'node:assert/strict'

import { ADMIN_TOKEN, Server } from '../js/support/server.js'

const SCHEMATHESIS = process.env.PAGEROOM_TEST_SCHEMATHESIS
const skip = SCHEMATHESIS ? false : 'SKIPPED: PAGEROOM_TEST_SCHEMATHESIS names no schemathesis; tests/run openapi brings it'

/** Settings of the server: whoever asks without a token is nobody, and the same address asks as often as it likes. */
const env = {
  JWT_SECRET: 'secret-of-the-tests-0123456789abcdef',
  REALTIME_BROADCAST_SECRET: 'broadcast-secret-of-the-tests-0123456789',
  PAGEROOM_MAX_REQUESTS_PER_SECOND: '0'
}

let server
before(async () => { server = skip ? undefined : await Server.start({ env }) })
after(() => server?.dispose())

async function make (method, path, body, type = 'application/json') {
  const response = await server.api(path, { method, body, headers: { 'content-type': type } })
  assert.ok(response.ok, `${method} ${path}: ${response.status} ${await response.text()}`)
}

/** Pages of all kinds, with a past, and what there is beside pages. */
async function fill () {
  await make('PUT', '/api/pages/notes/content', '# Notes\n\nWhat we *said*.\n', 'text/markdown')
  await make('POST', '/api/pages/notes/versions', '{"name":"first"}')
  await make('POST', '/api/pages/notes/append', 'And more.\n', 'text/markdown')
  await make('PUT', '/api/pages/team-7%2Fplan/content', '{"plan":{"due":"tomorrow","tags":["a","b"]}}')
  await make('PUT', '/api/pages/draft/content?field=text', 'Some text', 'text/plain')
  await make('POST', '/api/pages/sheet/edits', '[{"op":"add","path":"/cells/a1","value":1,"shared":true}]')
  await make('PUT', '/api/pages/trash/content', 'Old', 'text/plain')
  for (const page of ['team-7%2Fplan', 'draft', 'sheet']) await make('POST', `/api/pages/${page}/versions`, '{}')
  await make('DELETE', '/api/pages/trash')
  await make('PUT', '/api/pages/notes/permissions/ada', '{"role":"edit"}')
  await make('PUT', '/api/rooms/kitchen', '{"name":"Kitchen","maxMembers":5}')
}

test('the server answers as it is described', { skip }, async () => {
  await fill()
  const [config, hooks] = ['schemathesis.toml', 'hooks.py'].map(name => fileURLToPath(new URL(name, import.meta.url)))
  const found = await new Promise((resolve, reject) => {
    const child = spawn(SCHEMATHESIS, ['--config-file', config, 'run', `${server.url}/openapi.json`], {
      cwd: server.directory,
      env: {
        PATH: process.env.PATH,
        HOME: server.directory,
        NO_COLOR: '1',
        PAGEROOM_ADMIN_TOKEN: ADMIN_TOKEN,
        PYTHONDONTWRITEBYTECODE: '1',
        SCHEMATHESIS_HOOKS: hooks
      },
      stdio: ['ignore', 'inherit', 'inherit']
    })
    child.once('error', reject)
    child.once('exit', (code, signal) => resolve(code ?? signal))
  })
  assert.equal(found, 0, 'schemathesis found something: see above')
  assert.equal(await server.readiness(), 200, 'the server serves')
})
