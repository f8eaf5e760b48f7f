// What Hocuspocus providers have beyond the scenarios that all providers play: counted changes, scopes, many pages on one socket,
// sessions, tokens that are asked for again, messages beside the page, and company of another protocol.

import { describe, test } from 'node:test'
import assert from 'node:assert/strict'

import { Client, STABLE, PROVIDERS, converged } from './support/clients.js'
import { GENERATIONS } from './support/hocuspocus.js'
import { Server } from './support/server.js'
import { freshPage, serverForFile } from './support/suite.js'
import { JWT_SECRET, tokenFor } from './support/tokens.js'
import { until } from './support/wait.js'

const server = serverForFile({ env: { JWT_SECRET } })
const generations = PROVIDERS.filter(({ name }) => GENERATIONS.some(generation => generation.name === name))

const as = (page, role, user = 'ada') => ({ token: tokenFor(user, { [page]: role }) })
const provider = client => client.provider.provider

// The providers put refusals that they act on into words.
console.warn = () => {}

for (const version of generations) {
  const join = (page, options) => new Client(server(), page, { version, ...options }).whenSynced()

  describe(version.name, () => {
    test('every change is counted until it is stored, and no longer', async () => {
      const page = freshPage('counted')
      const ada = await join(page, as(page, 'edit'))
      await until('nothing is unsynced at first', () => provider(ada).unsyncedChanges === 0)
      for (let round = 0; round < 5; round++) {
        for (let i = 0; i < 20; i++) ada.insertText(ada.textLength, `${round}.${i} `)
        assert.equal(provider(ada).unsyncedChanges, 20)
        assert.equal(provider(ada).hasUnsyncedChanges, true)
        await until('all are stored', () => !provider(ada).hasUnsyncedChanges)
        const response = await server().api(`/api/pages/${page}/content?format=json`)
        assert.equal((await response.json()).text, ada.text, 'what is no longer counted is stored')
      }
    })

    test('who asks for everything again has nothing open behind it', async () => {
      const page = freshPage('again')
      const ada = await join(page, as(page, 'edit', 'zoe'))
      const settled = () => until(() => `nothing is unsynced, ${provider(ada).unsyncedChanges} are`, () => provider(ada).unsyncedChanges === 0)
      for (const word of ['one', ' two']) {
        ada.insertText(ada.textLength, word)
        await settled()
        provider(ada).forceSync()
        await settled()
      }
      const ben = await join(page, as(page, 'edit', 'yan'))
      assert.equal(ben.text, 'one two')
    })

    test('what was typed while a page was left alone reaches the others', async () => {
      const page = freshPage('alone')
      const ada = await join(page, as(page, 'edit', 'zoe'))
      const ben = await join(page, as(page, 'edit', 'yan'))
      provider(ada).disconnect()
      ada.insertText(0, 'typed alone')
      await provider(ada).connect()
      await until('Ben has it', () => ben.text === 'typed alone')
      await until('nothing is unsynced', () => provider(ada).unsyncedChanges === 0)
    })

    test('a page that is opened, closed and opened again in one breath is open', async () => {
      const socket = version.openSocket(server())
      const page = freshPage('breath')
      const options = { version, socket, connect: false, ...as(page, 'edit', 'zoe') }
      const other = new Client(server(), freshPage('beside'), { version, socket, connect: false, ...as('*', 'edit', 'zoe') })
      socket.connect()
      await other.whenSynced()
      new Client(server(), page, options).dispose()
      const ada = new Client(server(), page, options)
      await ada.whenSynced()
      ada.insertText(0, 'here')
      const ben = await join(page, as(page, 'edit', 'yan'))
      await until('Ben has it', () => ben.text === 'here')
      other.insertText(0, 'beside')
      await until('the other page is open as before', () => !provider(other).hasUnsyncedChanges)
      socket.destroy()
    })

    test('a viewer is told its scope, follows, shows itself, and changes nothing', async () => {
      const page = freshPage('viewer')
      const ada = await join(page, as(page, 'edit'))
      ada.insertText(0, 'by Ada')
      await until('it is stored', () => !provider(ada).hasUnsyncedChanges)
      const eve = await join(page, { ...as(page, 'view', 'eve'), presence: { user: { name: 'Eve' } } })
      await until('Eve is told', () => provider(eve).authorizedScope === 'readonly')
      assert.equal(provider(ada).authorizedScope, 'read-write')
      await until('Eve has the text', () => eve.text === 'by Ada')
      await until('nothing of Eve\'s is open', () => !provider(eve).hasUnsyncedChanges)
      eve.insertText(0, 'by Eve ')
      ada.insertText(ada.textLength, ', more')
      await until('Eve still receives', () => eve.text.endsWith(', more'))
      await until('Ada sees her', () => ada.presenceOf(eve)?.user.name === 'Eve')
      assert.equal(ada.text, 'by Ada, more')
      assert.equal(provider(eve).hasUnsyncedChanges, true, 'what was refused is never said to be saved')
    })

    test('who may not open a page is told so', async () => {
      const page = freshPage('denied')
      const stranger = new Client(server(), page, { version })
      await until('the stranger is told', () => stranger.provider.refusals.some(reason => reason.startsWith('unauthenticated: ')))
      const eve = new Client(server(), page, { version, ...as('elsewhere', 'edit') })
      await until('Eve is told', () => eve.provider.refusals.some(reason => reason.startsWith('forbidden: ')))
      assert.ok(!stranger.synced && !eve.synced)
      stranger.dispose()
      eve.dispose()
    })

    test('many pages share a socket, each with its own text, presence and scope', async () => {
      const socket = version.openSocket(server())
      const pages = Array.from({ length: 10 }, () => freshPage('shared'))
      const here = pages.map((page, index) => new Client(server(), page, {
        version, socket, connect: false, ...as(page, index === 9 ? 'view' : 'edit'), presence: { user: { name: `Ada ${index}` } }
      }))
      socket.connect()
      for (const client of here) await client.whenSynced()
      const there = await Promise.all(pages.map(page => join(page, as(page, 'edit', 'ben'))))
      here.forEach((client, index) => client.insertText(0, `page ${index}`))
      for (let index = 0; index < 9; index++) {
        await until(`page ${index} has its text`, () => there[index].text === `page ${index}`)
        await until(`page ${index} shows Ada`, () => there[index].presenceOf(here[index])?.user.name === `Ada ${index}`)
      }
      assert.equal(there[9].text, '', 'one of them only to be read')
      // One page is left; the others go on.
      here[0].provider.destroy()
      await until('Ada has left it', () => there[0].presenceOf(here[0]) === undefined)
      there[1].insertText(0, 'still ')
      await until('the next one goes on', () => here[1].text === 'still page 1')
      for (const client of here) client.dispose()
      socket.destroy()
    })

    test('what is said beside the page reaches the others and comes from the backend', async () => {
      const page = freshPage('stateless')
      const [ada, ben] = await Promise.all([join(page, as(page, 'edit')), join(page, as(page, 'comment', 'ben'))])
      provider(ben).sendStateless('from Ben')
      await until('Ada hears Ben', () => ada.provider.stateless.includes('from Ben'))
      const response = await server().api(`/api/pages/${page}/stateless`, {
        method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ payload: 'from the backend' })
      })
      assert.deepEqual(await response.json(), { delivered: 2 })
      await until('both hear the backend', () => [ada, ben].every(client => client.provider.stateless.includes('from the backend')))
      assert.ok(!ben.provider.stateless.includes('from Ben'))
    })

    test('a y-websocket client in the same room sees text and cursor, and is seen', async () => {
      const page = freshPage('mixed')
      const ada = await join(page, { ...as(page, 'edit'), presence: { user: { name: 'Ada' } } })
      const ben = await new Client(server(), page, {
        version: STABLE, params: as(page, 'edit', 'ben'), presence: { user: { name: 'Ben' } }
      }).whenSynced()
      ada.insertText(0, 'from Ada ')
      await until('Ben has it', () => ben.text === 'from Ada ')
      ben.insertText(ben.textLength, 'from Ben')
      ben.awareness.setLocalStateField('cursor', 7)
      ada.awareness.setLocalStateField('cursor', 3)
      await converged([ada, ben])
      assert.equal(ada.text, 'from Ada from Ben')
      await until('Ada sees Ben\'s cursor', () => ada.presenceOf(ben)?.cursor === 7)
      await until('Ben sees Ada\'s cursor', () => ben.presenceOf(ada)?.cursor === 3)
      ada.awareness.setLocalState(null)
      await until('Ada\'s presence is cleared', () => ben.presenceOf(ada) === undefined)
      ben.offline()
      await until('Ben is gone', () => ada.presenceOf(ben) === undefined)
    })
  })
}

describe('tokens', () => {
  /** Three seconds: the server gives a leeway of 15. */
  const SHORT = { expiresIn: -12 }

  // The second generation does not know the question.
  for (const version of generations.filter(({ name }) => !name.includes(' 2.'))) {
    test(`${version.name} is asked for a fresh token and stays`, async () => {
      const page = freshPage('refreshed')
      const given = []
      const token = () => {
        given.push(tokenFor('ada', { [page]: 'edit' }, SHORT))
        return given.at(-1)
      }
      const ada = await new Client(server(), page, { version, token }).whenSynced()
      await until('three tokens were asked for', () => given.length >= 3)
      assert.deepEqual(ada.closes, [])
      ada.insertText(0, 'still here')
      await until('it is stored', () => !provider(ada).hasUnsyncedChanges)
      ada.dispose()
    })

    test(`${version.name} is hung up on when its token ends`, async () => {
      const page = freshPage('expired')
      const ada = await new Client(server(), page, {
        version, token: tokenFor('ada', { [page]: 'edit' }, SHORT)
      }).whenSynced()
      await until('it is told', () => ada.closes.some(close => close.code === 4401 && close.reason.startsWith('token_expired: ')))
      ada.dispose()
    })
  }
})

test('two sessions of one page on one socket see each other', async () => {
  const version = generations.find(({ hasSessions }) => hasSessions)
  const page = freshPage('sessions')
  const socket = version.openSocket(server())
  const [left, right] = [0, 1].map(index => new Client(server(), page, {
    version, socket, connect: false, ...as(page, 'edit'), presence: { user: { name: `pane ${index}` } }
  }))
  socket.connect()
  for (const client of [left, right]) await client.whenSynced()
  left.insertText(0, 'left '.repeat(20_000))
  right.insertText(right.textLength, 'right')
  await converged([left, right])
  await until('they see each other', () => left.presenceOf(right)?.user.name === 'pane 1' && right.presenceOf(left)?.user.name === 'pane 0')
  await until('all is stored', () => [left, right].every(client => !provider(client).hasUnsyncedChanges))
  for (const client of [left, right]) client.dispose()
  socket.destroy()
})

for (const version of generations) {
  test(`${version.name}: what is no longer counted survives a power cut, and the count ends after it`, async t => {
    const own = await Server.start()
    t.after(() => own.dispose())
    const page = freshPage('cut')
    const ada = await new Client(own, page, { version }).whenSynced()
    for (let round = 0; round < 3; round++) {
      for (let i = 0; i < 10; i++) ada.insertText(ada.textLength, `${round}.${i} `)
      await until('all are stored', () => !provider(ada).hasUnsyncedChanges)
      const stored = ada.text
      for (let i = 0; i < 10; i++) ada.insertText(ada.textLength, 'perhaps ')
      await own.kill()
      await own.restart()
      await until('it is back', () => ada.synced && !provider(ada).hasUnsyncedChanges)
      assert.ok((await own.content(page)).text.startsWith(stored))
      await until('and the rest follows', async () => (await own.content(page)).text === ada.text)
    }
    ada.dispose()
  })
}

test('a polite stop: providers of all generations come back by themselves', async t => {
  const own = await Server.start()
  t.after(() => own.dispose())
  const page = freshPage('stopped')
  const clients = await Promise.all(generations.map(version => new Client(own, page, { version }).whenSynced()))
  clients.forEach((client, index) => client.insertText(0, `words of ${index} `))
  await own.stop()
  for (const client of clients) {
    await until(`${client.version.name} is told`, () => client.closes.some(close => close.code === 1012))
  }
  await own.launch()
  for (const client of clients) {
    await until(() => `${client.version.name} is back: ${JSON.stringify(client.closes)}`, () => client.synced)
  }
  await converged(clients)
  for (const client of clients) await until('all is stored', () => !provider(client).hasUnsyncedChanges)
  for (const client of clients) client.dispose()
})
