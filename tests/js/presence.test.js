// Who is here: presence follows the connection, belongs to it, and neither flickers nor haunts.

import { describe, test } from 'node:test'
import assert from 'node:assert/strict'

import { Client, PROVIDERS } from './support/clients.js'
import { RawClient, awareness, queryAwareness, syncStep1, hex } from './support/raw.js'
import { freshPage, serverForFile } from './support/suite.js'
import { holdsFor, until } from './support/wait.js'

const server = serverForFile()

/** Keeps the times at which `client` loses and finds somebody. */
function watch (client, other) {
  const seen = { removed: [], added: [] }
  client.awareness.on('change', ({ added, removed }) => {
    if (added.includes(other.clientId)) seen.added.push(performance.now())
    if (removed.includes(other.clientId)) seen.removed.push(performance.now())
  })
  return seen
}

for (const version of PROVIDERS) {
  describe(version.name, { concurrency: true }, () => {
    const join = (page, options) => new Client(server(), page, { version, ...options }).whenSynced()

    async function pair (name) {
      const page = freshPage(name)
      const ben = await join(page, { presence: { user: { name: 'Ben' } } })
      const ada = await join(page, { presence: { user: { name: 'Ada' } } })
      await until('Ben sees Ada', () => ben.presenceOf(ada))
      return { page, ada, ben, seen: watch(ben, ada) }
    }

    // A break between two polls shows only when a ping is not answered, and then the rest holds as well.
    const breaksShow = !version.breaksLate
    if (breaksShow) test('a broken connection that comes back soon does not flicker', async () => {
      const { ada, ben, seen } = await pair('bounce')
      ada.bounce()
      await until('Ada is back', () => ada.closes.length === 1 && ada.synced)
      ada.awareness.setLocalStateField('back', true)
      await until('Ben sees her new state', () => ben.presenceOf(ada)?.back)
      // Longer than the presence of a broken connection is kept: the old one must not take the new one's away.
      await holdsFor('Ben never sees Ada leave', 4_500, () => seen.removed.length === 0)
      assert.ok(ben.presenceOf(ada))
    })

    if (breaksShow) test('after a broken connection presence stays for a moment and then goes', async () => {
      const { ada, ben, seen } = await pair('broken')
      const from = performance.now()
      ada.breakConnection()
      await until('Ada is gone', () => seen.removed.length > 0, 10_000)
      const kept = seen.removed[0] - from
      assert.ok(kept > 1_500 && kept < 8_000, `kept for ${Math.round(kept)} ms`)
      assert.equal(ben.presenceOf(ada), undefined)
    })

    if (breaksShow) test('who comes back later is seen at once, after a break and after a clean leave', async () => {
      const { ada, ben, seen } = await pair('later')
      ada.breakConnection()
      await until('Ada is gone', () => seen.removed.length === 1, 10_000)
      ada.online()
      await ada.whenSynced()
      await until('Ben sees Ada at once', () => ben.presenceOf(ada)?.user.name === 'Ada', 1_000)
      ada.offline()
      await until('Ada has left', () => ben.presenceOf(ada) === undefined, 1_000)
      ada.online()
      await ada.whenSynced()
      await until('Ben sees Ada at once again', () => ben.presenceOf(ada)?.user.name === 'Ada', 1_000)
      await until('Ada sees Ben too', () => ada.presenceOf(ben)?.user.name === 'Ben', 1_000)
    })
  })
}

describe('on the wire', () => {
  test('a room in which nothing happens is quiet', async () => {
    const page = freshPage('quiet')
    const clients = ['Ada', 'Ben', 'Cleo'].map(name => new Client(server(), page, { presence: { user: { name } } }))
    await until('all see all', () => clients.every(one => clients.every(other => one.presenceOf(other))))
    clients[0].bounce()
    await until('Ada is back', () => clients[0].closes.length === 1 && clients[0].synced)
    const witness = await RawClient.connect(server(), page)
    // Every provider passes on what it hears of others; the server must not answer that with news of its own.
    await holdsFor('hardly anything is sent', 3_000, () => witness.messages.length < 20)
  })

  async function editorAndRaw (name, clientId) {
    const page = freshPage(name)
    const ada = await new Client(server(), page, { presence: { user: { name: 'Ada' } } }).whenSynced()
    const ben = await new Client(server(), page).whenSynced()
    await until('Ben sees Ada', () => ben.presenceOf(ada))
    const raw = await RawClient.connect(server(), page)
    if (clientId) raw.send(awareness([clientId, 1, { user: { name: 'Raw' } }]))
    raw.send(syncStep1(hex('00')))
    return { page, ada, ben, raw }
  }

  test('queryAwareness is answered with everybody', async () => {
    const { ada, raw } = await editorAndRaw('query', 4711)
    await raw.settle()
    raw.messages = []
    raw.send(queryAwareness)
    const { entries } = await raw.next('awareness', message => message.entries.some(entry => entry.clientId === ada.clientId))
    const names = new Map(entries.map(entry => [entry.clientId, entry.state?.user?.name]))
    assert.equal(names.get(ada.clientId), 'Ada')
    assert.equal(names.get(4711), 'Raw')
  })

  for (const [what, entry] of [
    ['a higher clock', clock => [clock + 10, { user: { name: 'Mallory' } }]],
    ['a removal at the same clock', clock => [clock, null]],
    ['a removal at a higher clock', clock => [clock + 10, null]]
  ]) {
    test(`somebody else's entry cannot be changed: ${what}`, async () => {
      const { ada, ben, raw } = await editorAndRaw('foreign', 815)
      const clock = ben.awareness.meta.get(ada.clientId).clock
      raw.send(awareness([ada.clientId, ...entry(clock)]))
      // The same connection's own entry arrives after it, so the foreign one has been handled by then.
      raw.send(awareness([815, 2, { user: { name: 'Raw' }, after: true }]))
      await until('Ben sees the raw client\'s next state', () => ben.presenceOf(815)?.after)
      assert.equal(ben.presenceOf(ada)?.user.name, 'Ada')
      assert.ok(raw.isOpen, 'honest clients pass on what they know of others; that is no offence')
      ada.awareness.setLocalStateField('cursor', 5)
      await until('Ada\'s own next state still arrives', () => ben.presenceOf(ada)?.cursor === 5, 1_000)
    })
  }

  test('an unknown client at clock 0 is seen at once', async () => {
    const { page, ben, raw } = await editorAndRaw('zero')
    raw.send(awareness([99, 0, { user: { name: 'Zero' } }]))
    await until('Ben sees the newcomer', () => ben.presenceOf(99)?.user.name === 'Zero', 2_000)
    const late = await RawClient.connect(server(), page)
    late.send(syncStep1(hex('00')))
    await late.next('awareness', message => message.entries.some(entry => entry.clientId === 99 && entry.state))
  })

  test('a hard disconnect leaves no ghost', async () => {
    const { page, ben, raw } = await editorAndRaw('ghost', 31337)
    await until('Ben sees it', () => ben.presenceOf(31337))
    raw.terminate()
    await until('the ghost is gone', () => ben.presenceOf(31337) === undefined, 8_000)
    const late = await new Client(server(), page).whenSynced()
    await until('who comes later sees Ben', () => late.presenceOf(ben))
    assert.equal(late.presenceOf(31337), undefined)
  })

  test('a close frame is a clean leave: gone within a second', async () => {
    const { ben, raw } = await editorAndRaw('close-frame', 2718)
    await until('Ben sees it', () => ben.presenceOf(2718))
    raw.socket.close(1000)
    await until('it is gone', () => ben.presenceOf(2718) === undefined, 1_000)
  })
})
