// Webhooks, as a backend hears them: verified with the very lines that the documents show.

import { after, test } from 'node:test'
import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import { readFileSync } from 'node:fs'

import { Client, disposeClients } from './support/clients.js'
import { Server } from './support/server.js'
import { freshPage } from './support/suite.js'
import { until } from './support/wait.js'

after(disposeClients)

const SECRET = 'what-both-of-them-know-and-nobody-else-does'

/** The lines of docs/webhooks.md, as a module. */
async function documented () {
  const text = readFileSync(new URL('../../docs/webhooks.md', import.meta.url), 'utf8')
  const code = text.split('```js\n')[1].split('```')[0]
  return import(`data:text/javascript,${encodeURIComponent(code)}`)
}

/** A backend that takes what the documented lines take. */
async function backend (t, isFromPageroom) {
  const heard = []
  const server = createServer(async (request, response) => {
    const parts = []
    for await (const part of request) parts.push(part)
    const body = Buffer.concat(parts)
    const signature = request.headers['x-pageroom-signature']
    const verified = isFromPageroom(SECRET, signature, body)
    heard.push({ signature, body, verified, event: JSON.parse(body) })
    response.writeHead(verified ? 200 : 401).end()
  })
  await new Promise(resolve => server.listen(0, '127.0.0.1', resolve))
  t.after(() => { server.closeAllConnections(); server.close() })
  return { heard, url: `http://127.0.0.1:${server.address().port}/hooks` }
}

test('what the documents show verifies webhooks, and nothing else', async t => {
  const { isFromPageroom } = await documented()
  const { heard, url } = await backend(t, isFromPageroom)
  const server = await Server.start({
    env: {
      PAGEROOM_WEBHOOK_URLS: url,
      PAGEROOM_WEBHOOK_SECRET: SECRET,
      PAGEROOM_WEBHOOK_ALLOW_PRIVATE: 'true',
      PAGEROOM_WEBHOOK_DEBOUNCE_SECONDS: '0'
    }
  })
  t.after(() => server.dispose())
  const page = freshPage('webhooks')
  const client = await new Client(server, page).whenSynced()
  client.insertText(0, 'Zoë 😀')
  await until('the change is told', () => heard.some(({ event }) => event.event === 'page.changed'))
  client.dispose()
  await until('the end is told', () => heard.some(({ event }) => event.event === 'page.last_left'))
  assert.ok(heard.every(({ verified }) => verified))
  assert.ok(heard.every(({ event }) => event.pageId === page))
  assert.deepEqual(heard.map(({ event }) => event.event).slice(0, 3), ['page.first_joined', 'page.created', 'page.changed'])
  assert.equal(new Set(heard.map(({ event }) => event.id)).size, heard.length)
  const { signature, body } = heard[0]
  assert.ok(isFromPageroom(SECRET, signature, body))
  for (const [secret, header, bytes] of [
    ['another secret, just as long as the first one', signature, body],
    [SECRET, signature, Buffer.concat([body, Buffer.from(' ')])],
    [SECRET, signature.replace(/t=\d+/, 't=1700000000'), body],
    [SECRET, signature.slice(0, -1), body],
    [SECRET, '', body],
    [SECRET, undefined, body]
  ]) assert.equal(isFromPageroom(secret, header, bytes), false, header)
})
