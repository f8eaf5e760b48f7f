// The lines that the demo's panel "Connect your editor" prints, run as they are with the real clients.

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { test } from 'node:test'

import { HocuspocusProvider } from '@hocuspocus/provider-4'
import { DocumentManager } from '@y-sweet/sdk'
import { io } from 'socket.io-client'
import { SocketIOProvider } from 'y-socket.io'
import { WebsocketProvider } from 'y-websocket-3.1.0'
import { WebSocket } from 'ws'
import * as Y from 'yjs'

import { lines } from '../../src/http/demo/source/connect.js'
import { ADMIN_TOKEN } from './support/server.js'
import { freshPage, serverForFile } from './support/suite.js'
import { JWT_SECRET, tokenFor } from './support/tokens.js'
import { until } from './support/wait.js'

globalThis.WebSocket ??= WebSocket

const open = serverForFile()
const closed = serverForFile({ env: { JWT_SECRET } })

/** Runs a line of a program with these names in it. */
const run = (line, names) => new Function(...Object.keys(names), `return ${line}`)(...Object.values(names))

const CLIENTS = {
  'y-websocket': { WebsocketProvider },
  Hocuspocus: { HocuspocusProvider },
  'y-socket.io': { SocketIOProvider }
}

for (const [kind, server, token] of [['open', open, null], ['with tokens', closed, tokenFor('ada', { '*': 'edit' })]]) {
  const linesFor = page => Object.fromEntries(lines({ home: server().url, page, token }).map(({ client, line }) => [client, line]))

  for (const [client, names] of Object.entries(CLIENTS)) {
    test(`the line for ${client} reaches the page of a server that is ${kind}`, async () => {
      const page = `${freshPage('line')}/it's a "näme"`
      const ydoc = new Y.Doc()
      const provider = run(linesFor(page)[client], { ...names, ydoc, token })
      try {
        ydoc.getText('text').insert(0, client)
        await until('the server has it', async () => (await server().content(page)).text === client)
      } finally {
        provider.destroy()
        // With it goes its awareness, whose clock would keep this process.
        ydoc.destroy()
      }
    })
  }

  test(`the line for Socket.IO joins a page of a server that is ${kind}`, async () => {
    const page = freshPage('line')
    let answer
    const names = { io, token, stateVector: Y.encodeStateVector(new Y.Doc()), answer: given => { answer = given } }
    const socket = run(linesFor(page)['Socket.IO'], names)
    try {
      await until('it has joined', () => answer)
      assert.equal(answer.ok, true, JSON.stringify(answer))
    } finally {
      socket.disconnect()
    }
  })

  test(`the line for a backend reads a page of a server that is ${kind}`, async () => {
    const page = `${freshPage('line')}/it's`
    const ydoc = new Y.Doc()
    ydoc.getText('text').insert(0, 'read')
    const posted = await server().api(`/api/pages/${encodeURIComponent(page)}/updates`, { method: 'POST', body: Y.encodeStateAsUpdate(ydoc) })
    assert.equal(posted.status, 200)
    const env = { PATH: process.env.PATH, PAGEROOM_ADMIN_TOKEN: ADMIN_TOKEN }
    const read = execFileSync('/bin/sh', ['-c', linesFor(page)['Your backend']], { env, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] })
    assert.deepEqual(JSON.parse(read), { text: 'read' })
  })
}

test('the line for y-sweet makes documents', async () => {
  const page = freshPage('line').replaceAll('/', '-')
  const line = Object.fromEntries(lines({ home: closed().url, page, token: 'x' }).map(({ client, line }) => [client, line]))['y-sweet, in your backend']
  const manager = run(line.replace('ADMIN_TOKEN', ADMIN_TOKEN), { DocumentManager })
  assert.deepEqual(await manager.createDoc(page), { docId: page })
})
