// What an application's own realtime server does with presence, typing and cursors: each is told to everybody at once, as it comes.
//
// node benches/peers/events_relay.mjs PORT

import { createServer } from 'node:http'
import { Server } from 'socket.io'

const httpServer = createServer()
const io = new Server(httpServer, { transports: ['websocket'] })
/** Who is at each page. */
const viewers = new Map()

io.on('connection', socket => {
  const user = socket.id
  const tell = pageId => io.to(`page:${pageId}`).emit('viewers_updated', { pageId, viewers: [...viewers.get(pageId)] })
  socket.on('join_page', (pageId, answer) => {
    socket.join(`page:${pageId}`)
    viewers.set(pageId, (viewers.get(pageId) ?? new Set()).add(user))
    socket.emit('joined_page', { pageId })
    tell(pageId)
    answer?.({ ok: true })
  })
  socket.on('typing_start', ({ pageId }) => socket.to(`page:${pageId}`).emit('user_typing', { pageId, userId: user }))
  socket.on('typing_stop', ({ pageId }) => socket.to(`page:${pageId}`).emit('user_stopped_typing', { pageId, userId: user }))
  socket.on('cursor_move', ({ pageId, cursor }) => {
    socket.to(`page:${pageId}`).emit('cursor_moved', { pageId, userId: user, name: user, avatarUrl: null, color: '#123456', cursor, connectionId: user })
  })
  socket.on('disconnecting', () => {
    for (const [pageId, users] of viewers) if (users.delete(user)) tell(pageId)
  })
})
httpServer.listen(Number(process.argv[2]), '127.0.0.1')
