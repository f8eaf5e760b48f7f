// The pure parts: addresses, status words, names and colours, what strangers send as awareness.

import assert from 'node:assert/strict'
import { test } from 'node:test'

import { faultOfPageName, home, readAddress, shareLink, socketPath, tokenOnlyReads } from '../source/address.js'
import { lines } from '../source/connect.js'
import { knownText, sizeText } from '../source/known.js'
import { tidyState, typingText } from '../source/presence.js'
import { announcementOf, statusOf } from '../source/status.js'
import { initials, PALETTE, readableColor, tidyName, variants } from '../source/user.js'

test('an address names page, kind and token, with defaults', () => {
  assert.deepEqual(readAddress(''), { page: 'welcome', kind: 'rich', token: null })
  assert.deepEqual(readAddress('?page=a%2Fb+c%26%C3%BC&kind=text&token=t'), { page: 'a/b c&ü', kind: 'text', token: 't' })
  assert.equal(readAddress('?kind=other').kind, 'rich')
})

test('a page name goes into the path and into a link and comes out the same', () => {
  for (const page of ['welcome', 'a b/ü?#%2F&=+', '日本/語', "it's (fine)!"]) {
    assert.equal(decodeURIComponent(new URL(`ws://h/ws/${socketPath(page)}?token=x`).pathname), `/ws/${page}`)
    const link = new URL(shareLink('http://h', page, 'text'))
    assert.deepEqual(readAddress(link.search), { page, kind: 'text', token: null })
  }
})

test('names that the server refuses are refused before', () => {
  for (const page of ['', 'a/../b', '.', 'a\nb', 'ü'.repeat(128), '\ud800']) assert.ok(faultOfPageName(page), JSON.stringify(page))
  for (const page of ['a', 'a/..b', '...', 'ü'.repeat(127)]) assert.equal(faultOfPageName(page), null, page)
})

/** @param {object} claims */
function token(claims) {
  return `e30.${Buffer.from(JSON.stringify(claims)).toString('base64url')}.sig`
}

test('only a token that grants nothing but reading makes the page read only from the start', () => {
  assert.equal(tokenOnlyReads(token({ name: 'Zoë', pages: { 'a/b': 'view' } }), 'a/b'), true)
  assert.equal(tokenOnlyReads(token({ pages: { 'a/*': 'comment' } }), 'a/b'), true)
  assert.equal(tokenOnlyReads(token({ pages: { 'a/b': 'edit', '*': 'view' } }), 'a/b'), false)
  assert.equal(tokenOnlyReads(token({ pages: { other: 'view' } }), 'a/b'), false)
  assert.equal(tokenOnlyReads(token({ role: 'admin', pages: { '*': 'view' } }), 'a/b'), false)
  for (const nonsense of [null, '', 'x', 'a.b.c', token(['x']), 'e30.bnVsbA.x']) assert.equal(tokenOnlyReads(nonsense, 'p'), false)
})

/** @type {import('../source/status.js').Facts} */
const FINE = { link: 'online', unsaved: false, late: false, readOnly: false, refusal: null, rejected: null }

test('the status says the worst thing that is true', () => {
  const kind = (/** @type {Partial<typeof FINE>} */ facts) => statusOf({ ...FINE, ...facts }).kind
  assert.equal(kind({}), 'saved')
  assert.equal(kind({ unsaved: true }), 'saving')
  assert.equal(kind({ unsaved: true, late: true }), 'late')
  assert.equal(kind({ unsaved: true, rejected: 'no' }), 'late')
  assert.equal(kind({ link: 'connecting', unsaved: true }), 'connecting')
  assert.equal(kind({ link: 'offline', unsaved: true, late: true }), 'offline')
  assert.equal(kind({ readOnly: true }), 'read-only')
  assert.equal(kind({ link: 'offline', refusal: { why: 'no', retries: false } }), 'refused')
})

test('a refusal warns of what is not saved, and offers a try only when none is made by itself', () => {
  const refused = statusOf({ ...FINE, unsaved: true, refusal: { why: 'No.', retries: false } })
  assert.equal(refused.notice, 'No. Your last changes are not saved: copy them before you leave.')
  assert.equal(refused.action, true)
  assert.equal(statusOf({ ...FINE, refusal: { why: 'No.', retries: true } }).action, false)
})

test('a screen reader hears about trouble and its end, not about each save', () => {
  const saved = statusOf(FINE)
  const saving = statusOf({ ...FINE, unsaved: true })
  const offline = statusOf({ ...FINE, link: 'offline' })
  const connecting = statusOf({ ...FINE, link: 'connecting' })
  for (const now of [connecting, saving, saved]) assert.equal(announcementOf('saved', now), null, now.kind)
  for (const now of [connecting, saving, offline]) assert.equal(announcementOf('offline', now), null, now.kind)
  assert.equal(announcementOf('saved', offline), offline.notice)
  assert.equal(announcementOf('offline', saved), 'Everything is saved again.')
  assert.equal(announcementOf('saved', statusOf({ ...FINE, readOnly: true })), 'You can read this page and not change it.')
})

test('names are one short line, with one or two initials', () => {
  assert.equal(tidyName('  Ada\n\u202eLovelace '), 'Ada Lovelace')
  assert.equal(tidyName('𝒳'.repeat(99)), '𝒳'.repeat(40))
  assert.equal(tidyName(null), 'Guest')
  assert.deepEqual(['Ada Byron Lovelace', 'ada', '👩‍🚀 x'].map(initials), ['AL', 'A', '👩X'])
})

test('white text is readable on every colour, and the offered ones stay as they are', () => {
  for (const { color } of PALETTE) assert.equal(readableColor(color), color)
  const luminance = (/** @type {string} */ color) =>
    [0.2126, 0.7152, 0.0722].reduce((sum, weight, at) => {
      const value = parseInt(color.slice(1 + 2 * at, 3 + 2 * at), 16) / 255
      return sum + weight * (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4)
    }, 0)
  for (const color of ['#ffffff', '#ffff00', '#00FF00', '#30bced', '#808080']) {
    assert.ok(1.05 / (luminance(readableColor(color)) + 0.05) >= 4.5, color)
  }
  assert.equal(readableColor('url(//evil)'), PALETTE[7].color)
  assert.equal(readableColor(undefined), PALETTE[7].color)
})

test('whatever strangers send as awareness becomes a state that the editors can use', () => {
  const id = { client: 1, clock: 2 }
  const good = { type: null, tname: 'text', item: id, assoc: 0 }
  const tidy = tidyState({ user: { name: 'Ada', color: '#7e22ce', extra: 1 }, typing: true, cursor: { anchor: good, head: good } })
  assert.deepEqual(tidy.user, { name: 'Ada', color: '#7e22ce', colorLight: '#7e22ce33' })
  assert.deepEqual(tidy.cursor, { anchor: good, head: good })
  assert.equal(tidy.typing, true)

  const positions = [null, 7, {}, { item: 7 }, { item: { client: 1 } }, { item: { client: 1, clock: -1 } }, { item: id, tname: {} }, { type: 'x' }]
  for (const anchor of positions) {
    assert.equal(tidyState({ cursor: { anchor, head: good } }).cursor, null, JSON.stringify(anchor))
  }
  for (const state of [7, 'x', [], {}, { user: 7 }, { user: { name: {}, color: [] } }, { cursor: 'x', typing: 'yes' }]) {
    const { user, typing, cursor } = tidyState(state)
    assert.equal(typeof user.name, 'string')
    assert.match(user.color, /^#[0-9a-f]{6}$/)
    assert.deepEqual([typing, cursor], [false, null])
  }
})

test('who is typing is named, up to two and a number', () => {
  const people = ['Me', 'Ada', 'Bob', 'Cleo', 'Dan'].map((name, client) => ({ client, name, color: '', typing: true, self: client === 0 }))
  assert.equal(typingText(people.slice(0, 1)), '')
  assert.equal(typingText(people.slice(0, 2)), 'Ada is typing…')
  assert.equal(typingText(people.slice(0, 3)), 'Ada and Bob are typing…')
  assert.equal(typingText(people), 'Ada, Bob and 2 more are typing…')
  assert.equal(typingText(people.map((person) => ({ ...person, typing: false }))), '')
})

test('the server may be under a path', () => {
  assert.equal(home('http://h:3001/?page=a/b'), 'http://h:3001')
  assert.equal(home('https://x/prefix/?page=a'), 'https://x/prefix')
  assert.equal(shareLink(home('https://x/team/pages/'), 'a', 'rich'), 'https://x/team/pages/?page=a')
})

test('what the server knows is said in a few words', () => {
  assert.equal(knownText({ seq: 128, sizeBytes: 4_234 }, 2), 'Saved as edit 128 · 2 people · 4.2 KB')
  assert.equal(knownText({}, 1), 'Nothing is stored yet · 1 person')
  const sizes = [0, 999, 1_000, 9_949, 9_950, 99_999, 999_499, 999_500, 12_345_678].map(sizeText)
  assert.deepEqual(sizes, ['0 B', '999 B', '1.0 KB', '9.9 KB', '10 KB', '100 KB', '999 KB', '1.0 MB', '12 MB'])
})

test('the lines for clients have the address of this server, also below a path, and say a token where there is one', () => {
  const of = (/** @type {Parameters<typeof lines>[0]} */ at) => Object.fromEntries(lines(at).map(({ client, line }) => [client, line]))
  const plain = of({ home: 'http://127.0.0.1:3001', page: "it's", token: null })
  assert.equal(plain['y-websocket'], "new WebsocketProvider('ws://127.0.0.1:3001/ws', 'it\\'s', ydoc)")
  assert.equal(plain['Socket.IO'], "io('http://127.0.0.1:3001').emit('join_page', { pageId: 'it\\'s', stateVector }, answer)")
  const below = of({ home: 'https://example.com/room', page: 'a', token: 'secret' })
  assert.equal(below['y-websocket'], "new WebsocketProvider('wss://example.com/room/ws', 'a', ydoc, { params: { token } })")
  assert.equal(below['y-socket.io'], "new SocketIOProvider('wss://example.com', 'a', ydoc, { auth: { token } }, { path: '/room/socket.io/' })")
  assert.equal(below['Socket.IO'], "io('https://example.com', { path: '/room/socket.io/', auth: { token } }).emit('join_page', { pageId: 'a', stateVector }, answer)")
  assert.equal(below['y-sweet, in your backend'], "new DocumentManager('yss://ADMIN_TOKEN@example.com/room')")
  assert.ok(!JSON.stringify(below).includes('secret'), 'nobody copies a token by accident')
})

test('windows of one browser get names and colours of their own', () => {
  const some = [...variants({ name: 'Ada', color: PALETTE[7].color })].slice(0, 3)
  assert.deepEqual(some, [
    { name: 'Ada', color: PALETTE[7].color },
    { name: 'Ada 2', color: PALETTE[0].color },
    { name: 'Ada 3', color: PALETTE[1].color },
  ])
  const long = [...variants({ name: 'x'.repeat(40), color: '#000000' })]
  assert.equal(new Set(long.map(({ name }) => name)).size, long.length)
  assert.ok(long.every(({ name }) => name === tidyName(name)))
})
