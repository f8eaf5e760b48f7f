// A page gets another document that says the same: whoever has a copy of the former one is refused, and nothing is there twice.

import { test } from 'node:test'
import assert from 'node:assert/strict'

import { Client, PROVIDERS, canonical, converged, whenStored } from './support/clients.js'
import { ADMIN_TOKEN } from './support/server.js'
import { freshPage, serverForFile } from './support/suite.js'
import { until } from './support/wait.js'

const server = serverForFile()

const authorization = { authorization: `Bearer ${ADMIN_TOKEN}` }
const address = (page, path = '') => `${server().url}/api/pages/${encodeURIComponent(page)}${path}`
const describe = async page => (await fetch(address(page), { headers: authorization })).json()

/** What a provider has been told of why it may not come back. */
const refusals = client => JSON.stringify([client.closes, client.provider.refusals, client.provider.provider?.refusals])

test('a page that is compacted says the same, and copies of the former document are refused', async () => {
  const page = freshPage('compacted')
  // Two packages go on with their timers when they are ended after they were refused, and the process with them; on the wire
  // they are what others are.
  const clients = PROVIDERS.filter(({ name }) => !name.startsWith('y-sweet') && name !== 'hocuspocus 3.4.4')
    .map(version => new Client(server(), page, { version }))
  for (const client of clients) await client.whenSynced()
  clients.forEach((client, index) => {
    for (let round = 0; round < 20; round++) client.insertText(0, `${index}.${round} `)
    client.deleteText(0, 40)
    client.setEntry('last', index)
    client.setEntry(`of ${index}`, [index, null, { deep: '👋' }])
    client.insertItems(0, [index, `${index}`])
    client.insertElement(0, 'paragraph', `${index}`, `text ${index}`)
  })
  clients[0].formatText(0, 5, { bold: true })
  clients[0].deleteElements(0, 1)
  const content = await converged(clients)
  await whenStored(server(), page, content)
  const before = await describe(page)

  const response = await fetch(address(page, '/compact'), { method: 'POST', headers: authorization })
  const compacted = await response.json()
  assert.equal(response.status, 200, JSON.stringify(compacted))
  const after = await describe(page)
  assert.notEqual(after.generation, before.generation)
  assert.deepEqual({ generation: after.generation, seq: after.seq }, { generation: compacted.generation, seq: before.seq + 1 })
  assert.deepEqual(compacted.before, before.weight)
  assert.deepEqual(compacted.after, after.weight)
  assert.equal(after.weight.clients, 1)
  assert.equal(after.weight.deadBytes, 0)
  assert.ok(before.weight.deadBytes > 0 && after.weight.structs < before.weight.structs)
  await whenStored(server(), page, content)

  // All of them come back with their copies, and type.
  clients.forEach(client => client.insertText(0, 'LATE'))
  for (const client of clients.filter(client => !client.version.name.startsWith('y-socket.io'))) {
    await until(() => `${client.version.name} is refused: ${refusals(client)}`, () => /page_rebuilt|4410/.test(refusals(client)))
  }
  const fresh = PROVIDERS.map(version => new Client(server(), page, { version }))
  for (const client of fresh) await client.whenSynced()
  assert.deepEqual(canonical(await converged(fresh)), canonical(content))
  fresh.forEach((client, index) => client.insertText(client.textLength, `<new ${index}>`))
  const now = await converged(fresh)
  await whenStored(server(), page, now)
  fresh.forEach((_, index) => assert.equal(now.text.split(`<new ${index}>`).length, 2))
  assert.ok(!now.text.includes('LATE'))
  // What they have is what they had and typed: nothing of the new document is in it.
  for (const client of clients) {
    assert.ok(!client.text.includes('<new'), client.version.name)
    assert.equal(client.textLength, clients[0].textLength, client.version.name)
  }

  // What was before is still there.
  const then = await fetch(address(page, `/content?format=text&field=text&seq=${before.seq}`), { headers: authorization })
  assert.equal(await then.text(), clients[0].text.replaceAll('LATE', ''))
  for (const client of [...clients, ...fresh]) client.dispose()
})
