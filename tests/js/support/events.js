// A client without a provider package: a document kept in sync through the events of the namespace `/`, behind the face of a
// y-websocket provider, so that the same scenarios can be played with it. It is what an application with a bare
// socket.io-client writes.

import { io } from './asyncapi.js'
import * as Y from 'yjs'
import { Awareness, applyAwarenessUpdate, encodeAwarenessUpdate, removeAwarenessStates } from 'y-protocols/awareness'
import { Observable } from 'lib0/observable'

import { BreakableAgent } from './y_socketio.js'

const bytes = buffer => new Uint8Array(buffer)

class EventsProvider extends Observable {
  constructor (url, page, doc, { connect, params, maxBackoffTime, transports }) {
    super()
    this.doc = doc
    // As in a URL, so that the name means the same page as for the others.
    this.page = decodeURIComponent(encodeURI(page).replaceAll('%25', '%'))
    this.agent = new BreakableAgent({ keepAlive: false })
    this.socket = io(url.replace(/\/ws$/, '').replace(/^ws/, 'http'), {
      autoConnect: false, auth: params, transports, agent: this.agent, forceNew: true,
      reconnectionDelay: maxBackoffTime / 2, reconnectionDelayMax: maxBackoffTime, timeout: 5_000
    })
    this.awareness = new Awareness(doc)
    this.synced = false
    /** Why something was refused. */
    this.refusals = []
    /** Edits without an acknowledgement. */
    this.unacknowledged = 0
    /** Who has the page open. */
    this.viewers = new Map()
    this.#listen()
    if (connect) this.connect()
  }

  #listen () {
    const { socket } = this
    socket.on('connect', () => this.#join())
    socket.on('disconnect', reason => {
      this.synced = false
      this.unacknowledged = 0
      this.emit('status', [{ status: 'disconnected' }])
      this.emit('connection-close', [{ code: 0, reason }])
      // Who is here is not known any more.
      const others = [...this.awareness.getStates().keys()].filter(id => id !== this.doc.clientID)
      removeAwarenessStates(this.awareness, others, this)
    })
    socket.on('connect_error', error => this.refusals.push(error.message))
    socket.on('error', error => this.refusals.push(error))
    socket.on('access_revoked', revoked => this.refusals.push(revoked))
    socket.on('viewers_changed', ({ joined, left }) => {
      for (const person of joined) this.viewers.set(person.userId, person)
      for (const user of left) this.viewers.delete(user)
    })
    socket.on('page_delta', ({ update }) => Y.applyUpdate(this.doc, bytes(update), this))
    socket.on('page_sync', ({ stateVector }) => this.#send(Y.encodeStateAsUpdate(this.doc, bytes(stateVector))))
    socket.on('page_awareness', ({ update }) => applyAwarenessUpdate(this.awareness, bytes(update), this))
    this.onUpdate = (update, origin) => { if (origin !== this && this.synced) this.#send(update) }
    // As providers do it: what comes from the server is said back, by which it learns that its clocks have arrived.
    this.onAwareness = ({ added, updated, removed }) => {
      if (this.synced) this.#show(added.concat(updated, removed))
    }
    this.doc.on('update', this.onUpdate)
    this.awareness.on('update', this.onAwareness)
  }

  #join () {
    this.emit('status', [{ status: 'connected' }])
    const stateVector = Y.encodeStateVector(this.doc)
    this.socket.emit('join_page', { pageId: this.page, stateVector }, answer => {
      if (!answer.ok) return this.refusals.push(answer.error)
      this.role = answer.role
      Y.applyUpdate(this.doc, bytes(answer.update), this)
      this.synced = true
      // Also what was typed while the answer was on its way.
      const lacking = Y.encodeStateAsUpdate(this.doc, bytes(answer.stateVector))
      if (lacking.length > 2 || lacking[0] !== 0) this.#send(lacking)
      this.emit('sync', [true])
      this.#show([this.doc.clientID])
    })
  }

  #send (update) {
    this.unacknowledged++
    const connection = this.socket.id
    this.socket.emit('page_delta', { pageId: this.page, update }, answer => {
      if (connection === this.socket.id) this.unacknowledged--
      if (!answer.ok) this.refusals.push(answer.error)
    })
  }

  #show (ids) {
    if (ids.length === 0) return
    const known = ids.filter(id => this.awareness.meta.has(id))
    if (known.length === 0) return
    this.socket.emit('page_awareness', { pageId: this.page, update: encodeAwarenessUpdate(this.awareness, known) })
  }

  connect () {
    this.shouldConnect = true
    this.emit('status', [{ status: 'connecting' }])
    this.socket.connect()
  }

  disconnect () { this.socket.disconnect() }

  destroy () {
    this.doc.off('update', this.onUpdate)
    this.awareness.off('update', this.onAwareness)
    this.socket.disconnect()
    this.agent.destroy()
    super.destroy()
  }

  /** Whether there is a network. */
  set shouldConnect (value) { this.agent.isCut = !value }

  /** The connection itself, to be broken without a goodbye. */
  get ws () {
    return { terminate: () => { for (const connection of this.agent.connections) connection.destroy() } }
  }
}

/** Makes a provider class that connects over these transports, in this order. */
export const eventsOver = (...transports) => class extends EventsProvider {
  constructor (url, page, doc, options) { super(url, page, doc, { ...options, transports }) }
}
