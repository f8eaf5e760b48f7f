// Who is at a page or in a drive, who types and where the cursors are, as programs with the public Socket.IO client hear it.

import { after, describe, test } from 'node:test'
import assert from 'node:assert/strict'

import { io, mistaken } from './support/asyncapi.js'

import { freshPage, serverForFile } from './support/suite.js'
import { JWT_SECRET, tokenFor } from './support/tokens.js'
import { until } from './support/wait.js'

const server = serverForFile({ env: { JWT_SECRET } })

const sockets = []
after(() => sockets.forEach(socket => socket.disconnect()))

/** A connection of a user that may edit everything, and all that it has heard by the names of the events. */
async function connect (user, transports, pages = { '*': 'edit' }) {
  const socket = io(server().url, { transports, auth: { token: tokenFor(user, pages) }, forceNew: true, reconnection: false })
  sockets.push(socket)
  const heard = {}
  socket.onAny((name, body) => (heard[name] ??= []).push(body))
  await new Promise((resolve, reject) => socket.on('connect', resolve).on('connect_error', reject))
  const ask = (event, body) => socket.timeout(10_000).emitWithAck(event, body)
  return { socket, heard, ask, last: name => heard[name]?.at(-1) }
}

for (const transports of [['websocket'], ['polling'], ['polling', 'websocket']]) {
  describe(transports.join(' and then '), () => {
    test('who joined by an id hears whole lists, who joined with an object what changes', async () => {
      const pageId = freshPage()
      const ada = await connect('ada', transports)
      const ben = await connect('ben', transports)
      assert.deepEqual((await ada.ask('join_page', pageId)).viewers, ['ada'])
      assert.deepEqual((await ben.ask('join_page', { pageId })).viewers, ['ada', 'ben'])
      await until('Ada sees both', () => ada.last('viewers_updated')?.viewers.length === 2)
      assert.deepEqual(ada.last('presence:page_viewers'), {
        pageId,
        viewers: [
          { userId: 'ada', socketId: ada.socket.id, name: 'ada', avatarUrl: null },
          { userId: 'ben', socketId: ben.socket.id, name: 'ben', avatarUrl: null }
        ]
      })
      await until('Ben knows both', () => ben.last('viewers_changed')?.count === 2)
      assert.deepEqual(ben.last('viewers_changed').joined.map(person => person.userId), ['ada', 'ben'])
      await ada.ask('leave_page', pageId)
      await until('Ada has left', () => ben.last('viewers_changed').left[0] === 'ada')
      assert.equal(ben.heard.viewers_updated, undefined)
      assert.equal(ada.heard.viewers_changed, undefined)
    })

    test('typing begins, ends, and is refused without a page', async () => {
      const pageId = freshPage()
      const [ada, ben, cleo] = await Promise.all(['ada', 'ben', 'cleo'].map(user => connect(user, transports)))
      await ben.ask('join_page', pageId)
      await cleo.ask('join_page', { pageId })
      assert.equal((await ada.ask('typing_start', { pageId })).error.code, 'conflict')
      assert.equal((await mistaken(() => ada.ask('typing_start'))).error.code, 'malformed')
      await ada.ask('join_channel', pageId)
      assert.deepEqual(await ada.ask('typing_start', { pageId }), { ok: true, pageId })
      await until('Ben hears it', () => ben.heard.user_typing)
      assert.deepEqual(ben.last('user_typing'), { pageId, userId: 'ada' })
      await until('Cleo hears it', () => cleo.heard.typing_updated)
      assert.deepEqual(cleo.last('typing_updated'), { pageId, users: [{ userId: 'ada', name: 'ada' }], count: 1 })
      ada.socket.emit('typing_stop', { pageId })
      await until('Ben hears the end', () => ben.heard.user_stopped_typing)
      await until('Cleo hears the end', () => cleo.last('typing_updated').count === 0)
      assert.equal(ada.heard.user_typing, undefined)
    })

    test('cursors move, in both forms, and leave with their connection', async () => {
      const pageId = freshPage()
      const [ada, ben, cleo] = await Promise.all(['ada', 'ben', 'cleo'].map(user => connect(user, transports)))
      await ben.ask('join_page', pageId)
      await cleo.ask('join_page', { pageId })
      assert.equal((await ada.ask('cursor_move', { pageId, cursor: 1 })).error.code, 'conflict')
      await ada.ask('presence:join_page', { pageId })
      for (let anchor = 0; anchor <= 200; anchor++) ada.socket.emit('cursor_move', { pageId, cursor: { anchor, head: anchor } })
      const cursor = { anchor: 200, head: 200 }
      const connectionId = ada.socket.id
      await until('Ben sees the last place', () => ben.last('cursor_moved')?.cursor.anchor === 200)
      const { color } = ben.last('cursor_moved')
      assert.match(color, /^#[0-9a-f]{6}$/)
      assert.deepEqual(ben.last('cursor_moved'), { pageId, userId: 'ada', name: 'ada', avatarUrl: null, color, cursor, connectionId })
      await until('Cleo sees the last place', () => cleo.last('cursors_moved')?.cursors[0].cursor.anchor === 200)
      assert.deepEqual(cleo.last('cursors_moved'), { pageId, cursors: [{ userId: 'ada', name: 'ada', color, cursor, connectionId }] })
      ada.socket.disconnect()
      await until('both hear that it has left', () => ben.heard.cursor_left && cleo.heard.cursor_left)
      assert.deepEqual(ben.last('cursor_left'), { pageId, userId: 'ada', connectionId })
    })

    test('members of a drive are online, idle and offline', async () => {
      const driveId = freshPage('drive')
      const [ada, ben, eve] = await Promise.all([
        connect('ada', transports), connect('ben', transports), connect('eve', transports, {})
      ])
      assert.equal((await eve.ask('join_drive', driveId)).error.code, 'forbidden')
      await ada.ask('join_drive', driveId)
      await ben.ask('join_drive', driveId)
      const statuses = told => told?.members.map(({ userId, status }) => `${userId} ${status}`).join(', ')
      await until('Ben hears of all', () => statuses(ben.heard['presence:drive']?.[0]) === 'ada online, ben online')
      assert.equal(ben.last('presence:drive').driveId, driveId)
      assert.ok(Date.parse(ben.last('presence:drive').members[0].lastSeen) > 0)
      await until('Ada hears of Ben', () => statuses(ada.last('presence:drive')) === 'ben online')
      await ben.ask('presence:activity', { idle: true })
      await until('Ben is idle', () => statuses(ada.last('presence:drive')) === 'ben idle')
      await ben.ask('presence:activity', { idle: false })
      await until('Ben is back', () => statuses(ada.last('presence:drive')) === 'ben online')
      // The other application's words for the same.
      await ben.ask('user-background', { timestamp: Date.now() })
      await until('Ben looks away', () => statuses(ada.last('presence:drive')) === 'ben idle')
      // The liveliest tab counts.
      const tab = await connect('ben', transports)
      await tab.ask('join_drive', driveId)
      await until('Ben has another tab', () => statuses(ada.last('presence:drive')) === 'ben online')
      tab.socket.disconnect()
      await until('and has it no more', () => statuses(ada.last('presence:drive')) === 'ben idle')
      await ben.ask('user-foreground', { timestamp: Date.now() })
      await until('Ben looks here again', () => statuses(ada.last('presence:drive')) === 'ben online')
      ben.socket.disconnect()
      await until('Ben is offline', () => statuses(ada.last('presence:drive')) === 'ben offline')
      assert.equal(eve.heard['presence:drive'], undefined)
    })
  })
}
