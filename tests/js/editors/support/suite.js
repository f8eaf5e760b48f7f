// What must hold for every kind of editor with every provider.

import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { isDeepStrictEqual } from 'node:util'

import * as Y from 'yjs'

import { Random } from '../../support/random.js'
import { Server } from '../../support/server.js'
import { until } from '../../support/wait.js'
import { PROVIDERS } from './providers.js'
import { Typist, headsOf } from './typist.js'

// Not a new one for each run: editors have faults of their own that show without any server as well, at rare seeds.
const BASE_SEED = Number(process.env.PAGEROOM_TEST_SEED ?? 1)
const SESSIONS = Number(process.env.PAGEROOM_TEST_SESSIONS ?? 4)
const ROUNDS = 8
const EDITS_PER_ROUND = 6

/** Joins as somebody who types in this process. */
const inProcess = kind => async (provider, place) => new Typist(kind, provider, place)

/**
 * Declares the tests of one kind of editor.
 *
 * @param {import('./typist.js').Kind} kind
 * @param {(provider: any, place: { url: string, page: string, clientId: number }) => Promise<any>} [join]
 */
export function testEditor (kind, join = inProcess(kind)) {
  describe(kind.name, () => {
    let server
    before(async () => { server = await Server.start() })
    after(() => server?.dispose())

    /** Plays a scene on a page; those who `enter` it leave at its end. */
    const play = async (provider, page, scene) => {
      const typists = []
      const enter = async clientId => {
        const typist = await join(provider, { url: server.url, page, clientId })
        typists.push(typist)
        await until(() => `${kind.name} is synced over ${provider.name}`, () => typist.isSynced())
        const [first] = typists
        // Not every provider tells when all that was there has arrived.
        await until('somebody new has what is there', async () => await typist.holds() === await first.holds())
        await typist.opens(typist === first)
        return typist
      }
      try {
        await scene(enter)
      } finally {
        for (const typist of typists) await typist.leaves()
      }
    }

    for (const provider of PROVIDERS) {
      for (let session = 0; session < SESSIONS; session++) {
        const seed = BASE_SEED + session
        const page = `${kind.name}/${provider.name}/${seed}`
        test(`two type at once, ${provider.name}, seed ${seed}`, () => play(provider, page, async enter => {
          const random = new Random(seed)
          const ada = await enter(1 + random.below(1000))
          const bob = await enter(1001 + random.below(1000))
          for (let round = 0; round < ROUNDS; round++) {
            await Promise.all([ada, bob].map(typist => typist.edits(random.next(), random.below(EDITS_PER_ROUND + 1))))
            await meet(ada, bob)
          }
          // There may be nothing left that would tell what the field is.
          await ada.types('the end')
          await meet(ada, bob)
          await agrees(server, kind, page, ada)
          const cleo = await enter(2001)
          await meet(ada, cleo)
        }))
      }

      const page = `${kind.name}/${provider.name}/undo`
      test(`undo takes back only what one has done oneself, ${provider.name}`, () => play(provider, page, async enter => {
        const ada = await enter(1)
        const bob = await enter(2)
        const both = async text => {
          await meet(ada, bob)
          assert.equal((await bob.sees()).text.split('\n')[0].trimEnd(), text)
        }
        await bob.types('bob 👩‍👩‍👧 ')
        await both('bob 👩‍👩‍👧')
        await ada.types('😀 ada ')
        await both('😀 ada bob 👩‍👩‍👧')
        await bob.types('and ')
        await both('and 😀 ada bob 👩‍👩‍👧')
        await ada.undoes()
        await both('and bob 👩‍👩‍👧')
        await agrees(server, kind, page, ada)
        await ada.redoes()
        await both('and 😀 ada bob 👩‍👩‍👧')
        await agrees(server, kind, page, ada)
      }))
    }
  })
}

/** Waits until both hold the same and have nothing more to say, and checks that both show the same. */
async function meet (one, other) {
  let seen
  await until(() => `both show the same:\n${seen.map(look => JSON.stringify(look)).join('\n')}`, async () => {
    const [held, heldByOther] = await Promise.all([one.holds(), other.holds()])
    seen = await Promise.all([one.sees(), other.sees()])
    return held === heldByOther && isDeepStrictEqual(seen[0], seen[1])
  })
}

/** Checks that the server has, and shows, what an editor shows. */
async function agrees (server, kind, page, typist) {
  const stored = new Y.Doc()
  let snapshot
  await until('the server has everything', async () => {
    snapshot = await server.snapshot(page)
    if (snapshot === undefined) return false
    Y.applyUpdate(stored, snapshot)
    return headsOf(stored) === await typist.holds()
  })
  assert.ok(!stored.store.pendingStructs && !stored.store.pendingDs, 'the snapshot has gaps')
  const { content, text, json } = await typist.sees()
  assert.deepEqual(await typist.reads([...snapshot]), content, 'what an editor shows that opens the snapshot')
  assert.deepEqual((await server.content(page))[kind.field], json, 'content as JSON')
  const answer = await server.api(`/api/pages/${encodeURIComponent(page)}/content?format=text&field=${kind.field}`)
  assert.equal(answer.status, 200)
  assert.equal(await answer.text(), text, 'content as text')
  if (!kind.tree) return
  const delta = await server.api(`/api/pages/${encodeURIComponent(page)}/content?format=delta&field=${kind.field}`)
  assert.equal(delta.status, 200)
  assert.deepEqual(kind.tree(await delta.json()), JSON.parse(JSON.stringify((kind.outline ?? same)(content))), 'content as a tree')
}

const same = content => content
