// The server goes away and comes back, politely or not, while people type.

import { describe, test, after } from 'node:test'
import assert from 'node:assert/strict'

import { CONFIRMING, Client, PROVIDERS, VERSIONS, converged, disposeClients } from './support/clients.js'
import { contentOfUpdate } from './support/content.js'
import { RawClient, disposeRawClients } from './support/raw.js'
import { Server } from './support/server.js'
import { freshPage } from './support/suite.js'
import { JWT_SECRET, tokenFor } from './support/tokens.js'
import { until } from './support/wait.js'

after(() => { disposeClients(); disposeRawClients() })

/** Types one numbered word after the other, about every 2 ms, until told to stop. */
function typist (client, word) {
  let count = 0
  const timer = setInterval(() => client.insertText(client.textLength, `${word}${count++} `), 2)
  return {
    get count () { return count },
    stop () { clearInterval(timer) }
  }
}

for (const version of PROVIDERS) {
  test(`${version.name}: killed three times under typing, nothing is missing`, async t => {
    const server = await Server.start({ env: { JWT_SECRET } })
    t.after(() => server.dispose())
    const page = freshPage('killed')
    // Two users, of whom each brings back what it has heard of the other.
    const as = user => ({ params: { token: tokenFor(user, { [page]: 'edit' }) } })
    const clients = await Promise.all(['ada', 'ben'].map(user => new Client(server, page, { version, ...as(user) }).whenSynced()))
    const typists = clients.map((client, index) => typist(client, 'ab'[index]))
    for (let round = 0; round < 3; round++) {
      const before = typists[0].count
      await until('some words are typed', () => typists[0].count >= before + 40)
      await server.kill()
      const down = typists[0].count
      await until('some words are typed offline', () => typists[0].count >= down + 20)
      await server.restart()
      await until('both are back', () => clients.every(client => client.synced), 20_000)
    }
    for (const one of typists) one.stop()
    await until('all words are everywhere', () => clients.every(client => {
      const words = client.text.split(' ').filter(Boolean)
      return words.length === typists[0].count + typists[1].count && new Set(words).size === words.length
    }))
    const content = await converged(clients)
    // A step 2 holds only what is stored.
    const late = await RawClient.connect(server, page, as('cleo'))
    assert.equal(contentOfUpdate((await late.settle()).body).text, content.text, 'the store has them')
    await server.kill()
    await server.restart()
    assert.equal((await server.content(page)).text, content.text, 'and keeps them')
  })
}

test('a polite stop: everybody is told to come back (1012), everything is stored, the end comes in time', async t => {
  const server = await Server.start()
  t.after(() => server.dispose())
  const page = freshPage('stopped')
  const clients = await Promise.all(VERSIONS.map(version => new Client(server, page, { version }).whenSynced()))
  const raw = await RawClient.connect(server, page)
  clients.forEach((client, index) => client.insertText(0, `words of ${index} `))
  const { code, signal, elapsedMs } = await server.stop()
  assert.deepEqual({ code, signal }, { code: 0, signal: null })
  assert.ok(elapsedMs < 10_000, `took ${Math.round(elapsedMs)} ms`)
  assert.equal((await raw.whenClosed()).code, 1012)
  for (const client of clients) {
    await until(`${client.version.name} is told`, () => client.closes.some(close => close?.code === 1012))
  }
  for (const client of clients) client.breakConnection()
  await server.launch()
  const late = await new Client(server, page).whenSynced()
  for (let index = 0; index < clients.length; index++) assert.ok(late.text.includes(`words of ${index} `))
})

describe('confirmed updates', () => {
  test('green after each edit and after edits made while the server was away, and green means stored', async t => {
    const server = await Server.start()
    t.after(() => server.dispose())
    const page = freshPage('green')
    const ada = await new Client(server, page, { version: CONFIRMING }).whenSynced()
    const status = () => ada.provider.syncStatus.status
    await until('green at the start', () => status() === 'green')
    ada.insertText(0, 'unconfirmed')
    assert.equal(ada.provider.syncStatus.localUpdatesSynced, false, 'not before the server has said so')
    await until('green after the echo', () => status() === 'green')
    ada.deleteText(0, 2)
    await until('green after a deletion', () => status() === 'green')
    await server.kill()
    ada.insertText(0, 'typed while the server was away ')
    assert.equal(ada.provider.syncStatus.localUpdatesSynced, false)
    await server.restart()
    await until(() => `green again: ${JSON.stringify(ada.provider.syncStatus)}`, () => status() === 'green')
    await server.kill()
    await server.restart()
    assert.equal((await server.content(page)).text, ada.text, 'what was green is stored')
  })

  test('green again although the confirmation was lost with its connection', async t => {
    const server = await Server.start()
    t.after(() => server.dispose())
    const ada = await new Client(server, freshPage('lost-echo'), { version: CONFIRMING }).whenSynced()
    const green = () => until(() => `green: ${JSON.stringify(ada.provider.syncStatus)}`,
      () => ada.provider.syncStatus.status === 'green')
    for (let round = 0; round < 10; round++) {
      const typing = typist(ada, 'w')
      await until('words are typed', () => typing.count >= 5 + round)
      ada.bounce()
      typing.stop()
      await green()
    }
    for (let round = 0; round < 3; round++) {
      const typing = typist(ada, 'w')
      await until('words are typed', () => typing.count > 50)
      await server.kill()
      typing.stop()
      await server.restart()
      await green()
    }
  })
})
