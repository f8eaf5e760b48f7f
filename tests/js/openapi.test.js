// What /openapi.json is good for: it is valid, and programs with types that are made from it compile and run against a real server.

import { execFile } from 'node:child_process'
import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { after, before, test } from 'node:test'
import assert from 'node:assert/strict'

import { Validator } from '@seriousme/openapi-schema-validator'
import openapiTS, { astToString } from 'openapi-typescript'

import { ADMIN_TOKEN } from './support/server.js'
import { freshPage, serverForFile } from './support/suite.js'
import { JWT_SECRET } from './support/tokens.js'

const run = promisify(execFile)
const MODULES = fileURLToPath(new URL('node_modules', import.meta.url))
const server = serverForFile({ env: { JWT_SECRET } })

let folder
before(() => {
  folder = mkdtempSync(join(tmpdir(), 'pageroom-openapi-'))
  symlinkSync(MODULES, join(folder, 'node_modules'))
  writeFileSync(join(folder, 'package.json'), '{"type":"module"}')
})
after(() => rmSync(folder, { recursive: true, force: true }))

const described = async () => (await fetch(`${server().url}/openapi.json`)).json()

test('the description is one of OpenAPI 3.1', async () => {
  const document = await described()
  const validator = new Validator()
  const { valid, errors } = await validator.validate(document)
  assert.ok(valid, JSON.stringify(errors, null, 1))
  assert.equal(validator.version, '3.1')
})

/** Nothing is passed over, not even what the declarations of the client say. */
const OPTIONS = {
  strict: true,
  noUncheckedIndexedAccess: true,
  exactOptionalPropertyTypes: false,
  skipLibCheck: false,
  target: 'es2022',
  module: 'nodenext',
  lib: ['es2022', 'dom', 'dom.iterable'],
  types: []
}

/** A program as somebody writes it; `@ts-expect-error` where a mistake must be one. */
const PROGRAM = `
import createClient from 'openapi-fetch'
import type { components, paths } from './api.js'

const [baseUrl, token, id] = process.argv.slice(2) as [string, string, string]
const { GET, POST, PUT, DELETE } = createClient<paths>({ baseUrl, headers: { authorization: \`Bearer \${token}\` } })
const bytes = (body: unknown) => body as BodyInit

function must<T> (answer: { data?: T, error?: unknown }): T {
  if (answer.data === undefined) throw new Error(JSON.stringify(answer.error))
  return answer.data
}

const page = { params: { path: { id } } }
const put = await PUT('/api/pages/{id}/content', {
  params: { path: { id }, query: { format: 'markdown' }, header: { 'If-None-Match': '*', 'Idempotency-Key': 'first' } },
  headers: { 'content-type': 'text/markdown' },
  body: '# Title',
  bodySerializer: bytes
})
const saved: components['schemas']['Saved'] = must(put)
const etag: string | null = saved.etag

const edits: components['schemas']['SmallEdit'][] = [
  { op: 'add', path: '/meta/tags', value: ['a'], shared: true },
  { op: 'insert_text', path: '/default', text: '!', after: 'Title', attributes: { bold: true } },
  { op: 'set', path: ['meta', 'n'], value: 1 }
]
const stored = must(await POST('/api/pages/{id}/edits', { ...page, body: edits }))
const seq: number = stored.seq

const described = must(await GET('/api/pages/{id}', page))
const fields: string[] = described.fields.map(field => field.name)

const html: string = must(await GET('/api/pages/{id}/content', {
  params: { path: { id }, query: { format: 'html' } }, parseAs: 'text'
})) as string

const version = must(await POST('/api/pages/{id}/versions', { ...page, body: { name: 'first' } }))
const granted = must(await PUT('/api/pages/{id}/permissions/{user}', {
  params: { path: { id, user: 'ada' } }, body: { role: 'edit' }
}))
const role: components['schemas']['Role'] = granted.role
const { changes } = must(await GET('/api/pages/{id}/changes', page)) as components['schemas']['ChangeListing']
const told = must(await POST('/api/broadcast', { body: { channelId: 'user:ada', event: 'hello', payload: { n: 1 } } }))

const unknown = await GET('/api/pages/{id}', { params: { path: { id: 'no-such-page' } } })
const problem: components['schemas']['Problem'] | undefined = unknown.error
const code: components['schemas']['RefusalCode'] | undefined = problem?.error.code

const removed = await DELETE('/api/pages/{id}', page)

// @ts-expect-error a role is one of four words
const wrong: components['schemas']['Role'] = 'owner'
// @ts-expect-error there is no such address
const nowhere = () => GET('/api/nowhere', {})
// @ts-expect-error an event has a payload
const empty = () => POST('/api/broadcast', { body: { channelId: 'user:ada', event: 'hello' } })
// @ts-expect-error an edit has a path
const unplaced: components['schemas']['SmallEdit'] = { op: 'remove' }

console.log(JSON.stringify({
  etag, seq, fields, html, version: version.version, role, changes: changes.length, delivered: told.delivered, code,
  removed: removed.response.status, unused: [wrong, typeof nowhere, typeof empty, unplaced].length
}))
`

test('a program with types of the description compiles, and runs', async () => {
  writeFileSync(join(folder, 'api.ts'), astToString(await openapiTS(await described())))
  writeFileSync(join(folder, 'program.ts'), PROGRAM)
  writeFileSync(join(folder, 'globals.d.ts'), 'declare const process: { argv: string[] }\n')
  writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify({ compilerOptions: OPTIONS, files: ['globals.d.ts', 'program.ts'] }))
  await run(process.execPath, [join(MODULES, 'typescript/bin/tsc'), '--project', folder]).catch(error => {
    assert.fail(error.stdout || error.message)
  })
  const page = freshPage('typed')
  const { stdout } = await run(process.execPath, ['program.js', server().url, ADMIN_TOKEN, page], { cwd: folder })
  const done = JSON.parse(stdout)
  assert.match(done.etag, /^".+-1"$/)
  assert.ok(done.fields.includes('meta') && done.fields.length === 2, `${done.fields}`)
  assert.match(done.html, /Title/)
  assert.deepEqual(
    { ...done, etag: '', fields: [], html: '' },
    {
      etag: '', seq: 2, fields: [], html: '', version: done.version, role: 'edit', changes: 2, delivered: 0, code: 'not_found',
      removed: 204, unused: 4
    }
  )
})
