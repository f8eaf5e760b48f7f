// The pages for applications that move here (src/events/*.md): their settings start a server beside the tables of the application, and
// what they print for clients, backends and workers does what they say, as it is printed.

import { after, before, describe, test } from 'node:test'
import assert from 'node:assert/strict'
import { createHmac } from 'node:crypto'
import { readFileSync } from 'node:fs'

import { io } from 'socket.io-client'

import { Cluster, POSTGRES_BIN, freshDatabase, sql } from './support/postgres.js'
import { ADMIN_TOKEN, Server } from './support/server.js'
import { JWT_SECRET, sign } from './support/tokens.js'
import { until, within } from './support/wait.js'

/** What stands for `…` in a setting. */
const SECRETS = {
  JWT_SECRET,
  PAGEROOM_ADMIN_TOKEN: ADMIN_TOKEN,
  REALTIME_BROADCAST_SECRET: 'secret-of-the-bridge-of-the-tests-0123456789abcdef',
  ENCRYPTION_KEY: 'key-of-the-names-of-the-tests-0123456789abcdef',
  NEXTAUTH_SECRET: 'secret-of-the-sessions-of-the-tests-0123456789',
  INDEXER_SERVICE_TOKEN: 'token-of-the-worker-of-the-tests-0123456789abcdef'
}

/** A page's blocks of code, as they are printed. */
function blocksOf (name) {
  const page = readFileSync(new URL(`../../src/events/${name}.md`, import.meta.url), 'utf8')
  return [...page.matchAll(/^( *)```(?:text|js|sh)\n([^]*?)^ *```$/gm)].map(([, indent, block]) => block.replaceAll(new RegExp(`^${indent}`, 'gm'), ''))
}

const blockWith = (blocks, part) => {
  const found = blocks.find(block => block.includes(part))
  assert.ok(found, `there is a block with ${part}`)
  return found
}

/** The settings of a block: `NAME=value`, with a remark behind two spaces, or a backslash. */
function settingsOf (block, database) {
  const lines = block.split('\n').map(line => /^([A-Z_]+)=('[^']*'|\S*)(?: {2,}.*| \\)?$/.exec(line)).filter(Boolean)
  return Object.fromEntries(lines.map(([, name, value]) => {
    if (name === 'DATABASE_URL' || name === 'PAGEROOM_ACCESS_DATABASE_URL') return [name, value.replace('postgres://…', database)]
    if (value === '…') assert.ok(SECRETS[name], `${name} is known`)
    return [name, value === '…' ? SECRETS[name] : value.replaceAll("'", '')]
  }))
}

/** Starts the server with settings as they are printed, on a port of its own. */
async function start (t, { PORT, DATABASE_URL, PAGEROOM_AI_WEBHOOK_URL, ...env }, more = {}) {
  const server = await Server.start({ databaseUrl: DATABASE_URL, env: { ...env, ...more } })
  t.after(() => server.dispose())
  return server
}

/** Runs what is printed for a program with these names in it; gives what it has called. */
const run = (lines, names) => new Function(...Object.keys(names), lines)(...Object.values(names))

const sockets = []
after(() => sockets.forEach(socket => socket.disconnect()))

/** `io` for the printed lines: to the server of the test, wherever they connect. */
const ioTo = (server, origin) => (url, options) => {
  assert.match(url, /^https:\/\/(realtime|rooms)\.example\.(org|com)$/)
  const extraHeaders = origin ? { origin } : {}
  const socket = io(server.url, { forceNew: true, extraHeaders, ...options })
  sockets.push(socket)
  return socket
}

async function rest (server, method, path, body, token) {
  const response = await server.api(path, { method, token, headers: { 'content-type': 'application/json' }, body })
  const text = await response.text()
  assert.ok(response.ok, `${method} ${path}: ${text}`)
  return text && JSON.parse(text)
}

/** Posts to the bridge, signed as the pages say. */
async function signed (server, path, body) {
  const at = Math.floor(Date.now() / 1000)
  const mac = createHmac('sha256', SECRETS.REALTIME_BROADCAST_SECRET).update(`${at}.${body}`).digest('hex')
  const response = await server.api(path, { method: 'POST', token: null, body, headers: { 'x-broadcast-signature': `t=${at},v1=${mac}` } })
  assert.equal(response.status, 200, await response.clone().text())
  return response.json()
}

const tokenOf = (user, pages = {}) => sign({ sub: user, name: `${user} of the tests`, pages })

describe('pages for applications', { skip: POSTGRES_BIN ? false : 'SKIPPED: no PostgreSQL (PAGEROOM_TEST_POSTGRES_BIN is not set)' }, () => {
  let cluster
  before(async () => { cluster = await Cluster.start() })
  after(() => cluster.dispose())

  test('PageSpace', async t => {
    const blocks = blocksOf('pagespace')
    const database = await freshDatabase(cluster.url)
    // As its own programs create them; of the same names as some of ours.
    await sql(database, `
      CREATE TABLE users (id text PRIMARY KEY, "tokenVersion" integer NOT NULL DEFAULT 0, "suspendedAt" timestamp);
      CREATE TABLE drives (id text PRIMARY KEY, "ownerId" text NOT NULL, "isTrashed" boolean NOT NULL DEFAULT false);
      CREATE TABLE drive_roles (id text PRIMARY KEY, "driveId" text NOT NULL, permissions jsonb NOT NULL DEFAULT '{}', drive_wide_permissions jsonb);
      CREATE TABLE drive_members ("driveId" text, "userId" text, role text NOT NULL DEFAULT 'MEMBER', "customRoleId" text, "acceptedAt" timestamp);
      CREATE TABLE pages (id text PRIMARY KEY, type text NOT NULL DEFAULT 'DOCUMENT', content text, "driveId" text NOT NULL,
        "isTrashed" boolean NOT NULL DEFAULT false, "isPrivate" boolean NOT NULL DEFAULT false);
      CREATE TABLE page_permissions ("pageId" text, "userId" text, "canView" boolean NOT NULL, "canEdit" boolean NOT NULL,
        "canShare" boolean NOT NULL DEFAULT false, "canDelete" boolean NOT NULL DEFAULT false, "expiresAt" timestamp);
      CREATE TABLE dm_conversations (id text PRIMARY KEY, "participant1Id" text, "participant2Id" text);
      CREATE TABLE conversations (id text PRIMARY KEY, "userId" text, type text, "contextId" text, "isShared" boolean);
      CREATE TABLE agent_workspaces (id text PRIMARY KEY, "ownerId" text, "driveId" text);
      INSERT INTO users VALUES ('ada'), ('ben');
      INSERT INTO drives VALUES ('d', 'ada', false);
      INSERT INTO drive_members VALUES ('d', 'ben', 'ADMIN', NULL, now());
      INSERT INTO pages VALUES ('p', 'DOCUMENT', '<p>of the <strong>application</strong></p>', 'd')`)
    await sql(database, blockWith(blocks, 'CREATE SCHEMA').trim())
    const settings = settingsOf(blockWith(blocks, 'PAGEROOM_ACCESS='), database)
    const contents = settingsOf(blockWith(blocks, 'PAGEROOM_CONTENT_QUERY'), database)
    assert.deepEqual([Object.keys(settings).length, Object.keys(contents)], [9, ['PAGEROOM_CONTENT_QUERY', 'PAGEROOM_CONTENT_FORMAT']])
    const server = await start(t, settings, contents)
    const shown = []
    const names = { io: ioTo(server), token: tokenOf('ada'), pageId: 'p', driveId: 'd', show: message => shown.push(message) }
    const socket = run(`${blockWith(blocks, "'join_channel'")}\nreturn socket`, names)
    await until('the page is joined', async () => (await signed(server, '/api/broadcast', '{"channelId":"p","event":"new_message","payload":{"n":1}}')).delivered === 1)
    await until('the message is shown', () => shown.length > 0)
    const [joins, listens, saves, ...rest] = blockWith(blocks, "socket.emit('join_page', pageId)").trim().split('\n')
    assert.deepEqual(rest, [])
    run(`${joins}\n${listens}`, { ...names, socket, editing: false })
    await until("the application's own content is shown", () => shown.includes('<p>of the <strong>application</strong></p>'))
    run(saves, { socket, pageId: 'p', content: '<p>of the <strong>application</strong>, by Ada</p>' })
    await until('the save is in the page', async () => (await server.content('p')).default?.includes(', by Ada'))
    assert.equal((await server.content('p')).default.match(/application/g).length, 1, 'once')
    const kicked = await signed(server, '/api/kick', '{"userId":"ada","roomPattern":"drive:d","reason":"member_removed"}')
    assert.deepEqual(kicked.rooms, ['drive:d'])
  })

  test('PatioAI', async t => {
    const blocks = blocksOf('patio')
    const database = await freshDatabase(cluster.url)
    await sql(database, `
      CREATE TABLE rooms (id text PRIMARY KEY, share_code text, name text, max_participants integer, is_active boolean, expires_at timestamptz);
      INSERT INTO rooms VALUES ('r', 'CODE', 'Kitchen', 5, true, now() + interval '1 day'), ('gone', 'OLD', 'Attic', 5, false, NULL)`)
    const settings = settingsOf(blockWith(blocks, 'PAGEROOM_ROOM_QUERY'), database)
    assert.equal(Object.keys(settings).length, 8)
    const server = await start(t, settings)
    const refreshed = []
    const names = { io: ioTo(server), token: tokenOf('ada', { 'room:*': 'edit' }), shareCode: 'CODE', refreshSidebar: data => refreshed.push(data) }
    const socket = run(`${blockWith(blocks, "'join-room'")}\nreturn socket`, names)
    const joined = await within('the room', new Promise(resolve => socket.once('room-joined', resolve)))
    assert.deepEqual(joined, { shareCode: 'CODE', roomName: 'Kitchen', participantCount: 1, maxParticipants: 5 })
    socket.emit('join-room', 'OLD')
    assert.deepEqual(await within('a refusal', new Promise(resolve => socket.once('room-error', resolve))), { error: 'Room not found' })
    const [, path, body] = /^POST (\S+) +(\{.*\})$/m.exec(blockWith(blocks, 'X-Broadcast-Signature'))
    assert.equal((await signed(server, path, body.replace('…', '{"id":"m"}'))).delivered, 1)
    await until('the sidebar is refreshed', () => refreshed.length === 1)
    assert.deepEqual(refreshed[0].new, { id: 'm' })
    // A room that the backend says.
    const [, method, room, said] = /^(PUT) (\S+) +(\{.*\})$/m.exec(blockWith(blocks, 'PUT /api/rooms'))
    await rest(server, method, room.replace('CODE', 'OTHER'), said)
    assert.equal((await within('an answer', socket.emitWithAck('join-room', 'OTHER'))).roomName, 'Kitchen')
  })

  test('an indexer', async t => {
    const blocks = blocksOf('indexer')
    const database = await freshDatabase(cluster.url)
    const settings = settingsOf(blockWith(blocks, 'INDEXER_SERVICE_TOKEN=…'), database)
    assert.equal(Object.keys(settings).length, 4)
    const server = await start(t, settings, { JWT_SECRET })
    await rest(server, 'PUT', '/api/pages/workspace%3Aw/permissions/ada', '{"role": "admin"}')
    const lines = blockWith(blocks, "'workspace:join'")
    const seen = []
    const names = {
      io: (url, options) => ioTo(server, settings.WEB_APP_URL)(url, { ...options, auth: { token: tokenOf('ada') } }),
      workspaceId: 'w',
      setProgress: data => seen.push(data.phase),
      refetch: () => seen.push('refetched'),
      router: { push: path => seen.push(path) }
    }
    const [joins, leaves] = [lines.replace(/^.*workspace:leave.*$/m, ''), lines.match(/^.*workspace:leave.*$/m)[0]]
    const socket = run(`${joins}\nreturn socket`, names)
    const joined = new Promise(resolve => socket.once('workspace:joined', resolve))
    socket.connect()
    assert.deepEqual(await within('the workspace', joined), { workspaceId: 'w', role: 'owner' })
    const worker = async (event, payload) => {
      const answers = []
      const fetched = (url, init) => fetch(url.replace('https://rooms.example.com', server.url), init).then(answer => answers.push(answer.status))
      const env = { INDEXER_SERVICE_TOKEN: settings.INDEXER_SERVICE_TOKEN }
      await run(`return (async () => { ${blockWith(blocks, 'await fetch(')} })()`, { fetch: fetched, process: { env }, id: 'w', event, payload })
      assert.deepEqual(answers, [200])
    }
    await worker('index:started', {})
    await worker('index:progress', { phase: 'render', docsDone: 1, docsTotal: 2, pagesDone: 1, pagesTotal: 5 })
    await worker('index:ready', {})
    await until('the browser knows', () => seen.includes('refetched'))
    assert.deepEqual(seen, ['render', 'refetched'])
    const left = new Promise(resolve => socket.once('workspace:left', resolve))
    run(leaves, { socket, workspaceId: 'w' })
    assert.deepEqual(await within('leave taken', left), { workspaceId: 'w' })
    socket.emit('workspace:join', { workspaceId: 'another' })
    await until('it is sent away', () => seen.includes('/workspaces'))
    const health = await (await server.api('/health')).json()
    assert.deepEqual(Object.keys(health).sort(), ['activeJobs', 'queuedJobs', 'socketConnections', 'status', 'uptime'])
  })

  test('components', async t => {
    const blocks = blocksOf('components')
    const database = await freshDatabase(cluster.url)
    const settings = settingsOf(blockWith(blocks, 'FRONTEND_URL'), database)
    assert.equal(Object.keys(settings).length, 6)
    const server = await start(t, settings)
    await rest(server, 'PUT', '/api/pages/component%3AID/permissions/USER', '{"role": "edit"}')
    const token = sign({ userId: 'USER', email: 'user@example.org' })
    const [shown, merged] = [[], []]
    const names = { io: ioTo(server), token, componentId: 'ID', title: 'Hello', show: data => shown.push(data), merge: (...change) => merged.push(change) }
    const socket = run(`${blockWith(blocks, "'component:subscribe'")}\nreturn socket`, names)
    await until('it is shown', () => shown.length === 1)
    const data = async () => (await rest(server, 'GET', '/api/pages/component%3AID/content?format=json&field=data'))
    await until('the title is stored', async () => JSON.stringify(await data().catch(() => '')).includes('"Hello"'))
    const [, path, body] = /^POST (\S+) +(\{.*\})$/m.exec(blockWith(blocks, 'X-Broadcast-Signature'))
    await signed(server, path, body.replace('{…}', '{"title":"by the backend"}'))
    await until('the change is merged', () => merged.length === 1)
    assert.deepEqual(merged, [['ID', { title: 'by the backend' }]])
    socket.disconnect()
  })
})
