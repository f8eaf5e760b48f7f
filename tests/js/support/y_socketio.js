// The y-socket.io provider behind the face of a y-websocket one, so that the same scenarios can be played with it.

import { Agent } from 'node:http'
import { SocketIOProvider } from 'y-socket.io'

/** Knows the TCP connections it has made, so that a test can break them, and lets none be made while the network is gone. */
export class BreakableAgent extends Agent {
  connections = new Set()
  isCut = false

  createConnection (...args) {
    const connection = super.createConnection(...args)
    this.connections.add(connection)
    connection.once('close', () => this.connections.delete(connection))
    if (this.isCut) connection.destroy()
    return connection
  }
}

/** Makes a provider class that connects over these transports, in this order. */
export const overTransports = (...transports) => class extends SocketIOProvider {
  constructor (url, page, doc, { connect, params, maxBackoffTime }) {
    // The client's requests do not survive the end of a connection that is used again.
    const agent = new BreakableAgent({ keepAlive: false })
    super(url.replace(/\/ws$/, ''), page, doc, { autoConnect: false, disableBc: true, auth: params }, {
      transports, agent, reconnectionDelay: maxBackoffTime / 2, reconnectionDelayMax: maxBackoffTime, timeout: 5_000
    })
    this.agent = agent
    // It opens a channel to say goodbye even where channels are switched off, and that keeps the process alive.
    this.disconnectBc = () => {}
    /** Why the server refused to connect, or ended the connection. */
    this.refusals = []
    this.socket.on('connect_error', error => this.refusals.push(error.message))
    this.socket.on('error', refusal => this.refusals.push(refusal))
    if (connect) this.connect()
  }

  connect () {
    this.shouldConnect = true
    super.connect()
  }

  disconnect () {
    super.disconnect()
    // The provider leaves a connection alone that is only being tried.
    this.socket.disconnect()
  }

  destroy () {
    super.destroy()
    this.socket.disconnect()
    this.agent.destroy()
  }

  /** Whether there is a network. */
  set shouldConnect (value) { this.agent.isCut = !value }

  /** The connection itself, to be broken without a goodbye. */
  get ws () {
    return { terminate: () => { for (const connection of this.agent.connections) connection.destroy() } }
  }
}
