// Nobody types and nobody shows a cursor for longer than a provider's patience: the connection stays.

import { describe, test } from 'node:test'
import assert from 'node:assert/strict'

import { Client, PROVIDERS } from './support/clients.js'
import { freshPage, serverForFile } from './support/suite.js'
import { holdsFor, until } from './support/wait.js'

/** The providers give up after 30 s without a message and look every 3 s. */
const SILENCE_MS = 35_000

const server = serverForFile()

describe('35 s of silence without presence', { concurrency: true }, () => {
  for (const version of PROVIDERS) {
    test(`${version.name} stays connected`, async () => {
      const page = freshPage('silence')
      const ada = await new Client(server(), page, { version, presence: null }).whenSynced()
      await holdsFor('the connection stays up', SILENCE_MS, () => ada.closes.length === 0 && ada.synced)
      assert.deepEqual(ada.statuses, ['connecting', 'connected'])
      ada.insertText(0, 'still here')
      const ben = await new Client(server(), page, { version }).whenSynced()
      await until('an edit still arrives', () => ben.text === 'still here')
    })
  }
})
