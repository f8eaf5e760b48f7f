// Keeps a Yjs document in step with a page over a Socket.IO connection that an application has anyway.

import { Awareness, applyAwarenessUpdate, encodeAwarenessUpdate, removeAwarenessStates } from 'y-protocols/awareness'
import * as Y from 'yjs'

/** Joins a page, now and after each loss of the connection; gives what editors show carets with. */
export function syncPage (socket, pageId, ydoc) {
  const awareness = new Awareness(ydoc)
  const bytes = (buffer) => new Uint8Array(buffer)
  let joined = false

  const join = () => socket.emit('join_page', { pageId, stateVector: Y.encodeStateVector(ydoc) }, (answer) => {
    if (!answer.ok) return again(answer.error)
    Y.applyUpdate(ydoc, bytes(answer.update), 'server')
    joined = true
    send(Y.encodeStateAsUpdate(ydoc, bytes(answer.stateVector)))
    show([ydoc.clientID])
  })
  const send = (update) => socket.emit('page_delta', { pageId, update }, (answer) => {
    // With answer.ok it is stored, as number answer.seq. Joining again sends whatever the page lacks.
    if (!answer.ok) again(answer.error)
  })
  const again = (error) => {
    console.warn(`${error.code}: ${error.message}`)
    if (error.retryable && socket.connected) setTimeout(join, error.retryAfterMs ?? 2_000)
  }
  const show = (clients) => socket.emit('page_awareness', { pageId, update: encodeAwarenessUpdate(awareness, clients) })

  socket.on('connect', join)
  socket.on('disconnect', () => {
    joined = false
    removeAwarenessStates(awareness, [...awareness.getStates().keys()].filter((id) => id !== ydoc.clientID), 'server')
  })
  socket.on('page_delta', ({ update }) => Y.applyUpdate(ydoc, bytes(update), 'server'))
  socket.on('page_sync', ({ stateVector }) => send(Y.encodeStateAsUpdate(ydoc, bytes(stateVector))))
  socket.on('page_awareness', ({ update }) => applyAwarenessUpdate(awareness, bytes(update), 'server'))
  ydoc.on('update', (update, origin) => { if (joined && origin !== 'server') send(update) })
  awareness.on('update', ({ added, updated, removed }) => { if (joined) show([...added, ...updated, ...removed]) })
  if (socket.connected) join()
  return awareness
}
