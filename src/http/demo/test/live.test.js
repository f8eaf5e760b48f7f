// How the page for administration follows a server: through streams that end after a while, and through an end of the server.

import assert from 'node:assert/strict'
import { test } from 'node:test'

import { ApiError } from '../source/admin/api.js'
import { Live } from '../source/admin/live.js'

/** Follows a server whose streams say this, one after the other, and then signs out. @param {import('node:test').TestContext} context @param {{ says: string, lasts: number }[]} streams */
async function followed(context, streams) {
  let now = 0
  context.mock.method(performance, 'now', () => now)
  /** @type {string[]} */
  const seen = []
  const rest = [...streams]
  const api = {
    async open() {
      const stream = rest.shift()
      if (!stream) throw new ApiError(401, 'unauthenticated', 'over')
      return new ReadableStream({
        start(controller) {
          controller.enqueue(new TextEncoder().encode(stream.says))
          now += stream.lasts
          controller.close()
        },
      })
    },
  }
  const live = new Live(/** @type {any} */ (api))
  live.onKind = (kind) => seen.push(kind)
  live.onOverview = ({ n }) => seen.push(`overview ${n}`)
  await live.follow()
  return seen
}

const overview = (/** @type {number} */ n) => `event: overview\ndata: {"n":${n}}\n\n`

test('a stream that has lasted is followed by the next one, and nobody is told', async (context) => {
  const seen = await followed(context, [
    { says: overview(1), lasts: 600_000 },
    { says: overview(2), lasts: 600_000 },
  ])
  assert.deepEqual(seen, ['connecting', 'live', 'overview 1', 'live', 'overview 2'])
})

test('a stream that ends at once, or says that there is no more, is a connection that is lost', async (context) => {
  const early = await followed(context, [{ says: overview(1), lasts: 10 }])
  assert.deepEqual(early, ['connecting', 'live', 'overview 1', 'lost'])
  const ended = await followed(context, [{ says: `${overview(1)}event: end\ndata: {"error":{}}\n\n`, lasts: 600_000 }])
  assert.deepEqual(ended, ['connecting', 'live', 'overview 1', 'lost'])
})
