// A backend that appends to a page, as the awareness of real Yjs clients of both kinds shows it: with a cursor at the end of what it has written,
// and gone as soon as it is.

import { describe, test } from 'node:test'
import assert from 'node:assert/strict'

import { Client, PROVIDERS } from './support/clients.js'
import { ADMIN_TOKEN } from './support/server.js'
import { freshPage, serverForFile } from './support/suite.js'
import { JWT_SECRET, sign, tokenFor } from './support/tokens.js'
import { until } from './support/wait.js'

const server = serverForFile({ env: { JWT_SECRET } })

/** A request that appends what it is told to. */
function appending (page, token, query = '') {
  let push
  const stopping = new AbortController()
  const body = new ReadableStream({ start (controller) { push = controller } })
  const answer = fetch(`${server().url}/api/pages/${page}/append?format=text&field=text&${query}`, {
    method: 'POST', body, duplex: 'half', headers: { authorization: `Bearer ${token}` }, signal: stopping.signal
  })
  return {
    answer: answer.catch(error => error),
    say: text => push.enqueue(new TextEncoder().encode(text)),
    end: () => push.close(),
    hangUp: () => stopping.abort()
  }
}

/** Where the clients of somebody with this name have their cursors in a document. */
function cursors ({ doc, awareness, version: { Y } }, name) {
  const states = [...awareness.getStates().values()].filter(state => state.user?.name === name)
  return states.map(({ cursor }) => {
    if (!cursor) return null
    const index = place => Y.createAbsolutePositionFromRelativePosition(Y.createRelativePositionFromJSON(place), doc)?.index
    assert.deepEqual(cursor.anchor, cursor.head)
    return index(cursor.head)
  })
}

for (const version of PROVIDERS) {
  describe(version.name, () => {
    const join = page => {
      const token = tokenFor('ada', { [page]: 'edit' })
      return new Client(server(), page, { version, token, params: { token } }).whenSynced()
    }

    test('a cursor follows what is appended until that has ended', async () => {
      const page = freshPage('writers')
      const ada = await join(page)
      ada.insertText(0, 'A😀')
      const name = 'The Assistant'
      const bot = sign({ sub: 'bot', name, pages: { [page]: 'edit' } })
      const request = appending(page, bot)
      let text = 'A😀'
      for (const piece of ['one', ' two', ' 🎉']) {
        request.say(piece)
        text += piece
        await until(`the cursor behind ${text}`, () => ada.text === text && cursors(ada, name)[0] === text.length)
      }
      ada.insertText(0, 'in front ')
      await until('the cursor moves with its text', () => cursors(ada, name)[0] === ada.textLength)
      request.end()
      await until('it is gone', () => cursors(ada, name).length === 0, 1000)
      assert.equal((await request.answer).status, 200)
    })

    test('a cursor is gone at once when its client hangs up, and when it may not write any more', async () => {
      const page = freshPage('writers')
      const ada = await join(page)
      const one = appending(page, ADMIN_TOKEN, 'author=Scribe')
      one.say('half of')
      await until('the cursor', () => cursors(ada, 'Scribe')[0] === 7)
      one.hangUp()
      await until('it is gone', () => cursors(ada, 'Scribe').length === 0, 1000)
      const permission = `/api/pages/${page}/permissions/bot`
      const granted = await server().api(permission, { method: 'PUT', body: '{"role":"edit"}', headers: { 'content-type': 'application/json' } })
      assert.ok(granted.ok, await granted.text())
      const other = appending(page, tokenFor('bot', {}))
      other.say(' it')
      await until('the cursor', () => cursors(ada, 'bot')[0] === 10)
      assert.ok((await server().api(permission, { method: 'DELETE' })).ok)
      await until('it is gone', () => cursors(ada, 'bot').length === 0, 1000)
      assert.equal((await other.answer).status, 403)
    })
  })
}
