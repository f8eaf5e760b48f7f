import assert from 'node:assert/strict'
import test from 'node:test'

import { tidyState } from '../source/presence.js'

const ODD = [null, 1, '', 'text', [], {}, { toString: 1 }, { toString: null, valueOf: 2 }, { client: {}, clock: [] }, { constructor: 1 }]

test('any presence can be shown', () => {
  for (const odd of ODD) {
    for (const state of [
      odd,
      { user: odd, typing: odd, cursor: odd },
      { user: { name: odd, color: odd } },
      { cursor: { anchor: odd, head: odd } },
      { cursor: { anchor: { type: odd, tname: odd, item: odd }, head: { type: odd, tname: odd, item: odd } } },
    ]) {
      const { user, typing } = tidyState(state)
      assert.equal(typeof user.name, 'string')
      assert.notEqual(user.name, '')
      assert.match(user.color, /^#[0-9a-f]{6}$/)
      assert.equal(typeof typing, 'boolean')
    }
  }
})
