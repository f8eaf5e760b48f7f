// One room, whatever is spoken: every provider there is on one page sees the others' text, cursors and typing, and leaves no ghost
// behind, whichever way it goes.

import { describe, test } from 'node:test'
import assert from 'node:assert/strict'

import { Client, PROVIDERS, converged, whenStored } from './support/clients.js'
import { freshPage, serverForFile } from './support/suite.js'
import { until } from './support/wait.js'

const server = serverForFile({
  env: {
    PAGEROOM_KEEPALIVE_SECONDS: '1',
    PAGEROOM_CONNECTION_TIMEOUT_SECONDS: '4',
    PAGEROOM_PING_INTERVAL_SECONDS: '1',
    PAGEROOM_PING_TIMEOUT_SECONDS: '3',
    PAGEROOM_PRESENCE_GRACE_SECONDS: '1'
  }
})

/** One client of each kind, all in the same room. */
async function everybody (page) {
  const clients = PROVIDERS.map(version => new Client(server(), page, { version, presence: { user: { name: version.name } } }))
  for (const client of clients) await client.whenSynced()
  return clients
}

/** Waits until each of `viewers` sees what `isSeen` says of each of `others`, but itself. */
async function allSee (what, viewers, others, isSeen) {
  const missing = () => viewers.flatMap(viewer => others
    .filter(other => other !== viewer && !isSeen(viewer.presenceOf(other), other))
    .map(other => `${viewer.version.name} of ${other.version.name}`))
  await until(() => `${what}; not yet: ${missing().join(', ')}`, () => missing().length === 0, 20_000)
}

/** The TCP connections below a client, whichever package it is. */
function connectionsOf ({ provider: { ws, agent } }) {
  return agent ? [...agent.connections] : [ws._socket]
}

/** Nothing arrives any more, and nobody says so. Gives the dead connections. */
function losesItsNetwork (client) {
  client.provider.shouldConnect = false
  const dead = connectionsOf(client)
  for (const connection of dead) {
    connection.pause()
    connection.write = connection.writev = connection._write = connection._writev = () => true
    connection.end = () => connection
  }
  return dead
}

describe('one room', { concurrency: true }, () => {
  test('everybody types and has the text of all', async () => {
    const page = freshPage('text')
    const clients = await everybody(page)
    for (let round = 0; round < 5; round++) {
      for (const client of clients) client.insertText(round % 2 ? 0 : client.textLength, `${round} ${client.version.name} 👋 `)
    }
    const content = await converged(clients)
    for (const { name } of PROVIDERS) assert.equal(content.text.split(` ${name} 👋 `).length, 6, name)
    await whenStored(server(), page, content)
    for (const client of clients) client.dispose()
  })

  test('everybody sees names, cursors and typing of all, also cleared and shown again', async () => {
    const clients = await everybody(freshPage('presence'))
    await allSee('all see the names', clients, clients, (seen, other) => seen?.user.name === other.version.name)
    clients.forEach((client, index) => {
      client.awareness.setLocalStateField('cursor', { anchor: index, head: index + 1 })
      client.awareness.setLocalStateField('typing', true)
    })
    await allSee('all see cursors and typing', clients, clients, (seen, other) =>
      seen?.typing === true && seen.cursor.anchor === clients.indexOf(other))
    for (const client of clients) client.awareness.setLocalStateField('typing', false)
    await allSee('nobody types', clients, clients, seen => seen?.typing === false)
    for (const client of clients) {
      client.awareness.setLocalState(null)
      await allSee('it is cleared', clients, [client], seen => seen === undefined)
    }
    for (const client of clients) client.awareness.setLocalState({ back: client.version.name })
    await allSee('all are back', clients, clients, (seen, other) => seen?.back === other.version.name)
    for (const client of clients) client.dispose()
  })

  for (const [how, goes] of [
    ['closes its page', client => client.offline()],
    ['is ended by its application', client => client.dispose()],
    ['is killed', client => client.breakConnection()],
    ['loses its network', losesItsNetwork]
  ]) {
    test(`who ${how} leaves no ghost`, async () => {
      const page = freshPage('ghosts')
      const [stay, go] = [await everybody(page), await everybody(page)]
      await allSee('all see all', [...stay, ...go], [...stay, ...go], (seen, other) => seen?.user.name === other.version.name)
      const dead = go.flatMap(client => goes(client) ?? [])
      await allSee(`nobody sees who ${how}`, stay, go, seen => seen === undefined)
      // Who stays is still there, and edits still travel.
      await allSee('all who stay see each other', stay, stay, (seen, other) => seen?.user.name === other.version.name)
      stay.forEach(client => client.insertText(0, `${client.version.name} `))
      await converged(stay)
      for (const client of [...stay, ...go]) client.dispose()
      // They would keep the process alive.
      for (const connection of dead) connection.destroy()
    })
  }
})
