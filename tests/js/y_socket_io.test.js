// What y-socket.io's provider says of itself, beside the scenarios that all providers play.

import { test } from 'node:test'
import assert from 'node:assert/strict'

import { Client, PROVIDERS, STABLE } from './support/clients.js'
import { freshPage, serverForFile } from './support/suite.js'
import { until } from './support/wait.js'

const server = serverForFile()

for (const version of PROVIDERS.filter(({ name }) => name.startsWith('y-socket.io'))) {
  test(`${version.name}: who is said to be in sync has all of the page`, async () => {
    const page = freshPage('large')
    const author = await new Client(server(), page, { version: STABLE }).whenSynced()
    const text = 'a long text '.repeat(11_000)
    author.insertText(0, text)
    await until('it is stored', async () => (await server().content(page)).text === text)
    for (let round = 0; round < 3; round++) {
      const reader = new Client(server(), page, { version })
      const lengths = []
      reader.provider.on('sync', isSynced => isSynced && lengths.push(reader.textLength))
      await until('it is in sync', () => lengths.length > 0)
      assert.equal(lengths[0], text.length)
      reader.dispose()
    }
    author.dispose()
  })
}
