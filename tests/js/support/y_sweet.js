// The y-sweet provider behind the face of a y-websocket one, so that the same scenarios can be played with it. Its tokens come
// from the y-sweet SDK, as an application's backend would fetch them.

import { YSweetProvider } from '@y-sweet/client'
import { DocumentManager } from '@y-sweet/sdk'
import { removeAwarenessStates } from 'y-protocols/awareness'

import { ADMIN_TOKEN } from './server.js'

/** The backend's way to the server, with the SDK. */
export const manager = url => new DocumentManager(url.replace(/^\w+:\/\//, `ys://${ADMIN_TOKEN}@`).replace(/\/ws$/, ''))

export class YSweet extends YSweetProvider {
  constructor (url, page, doc, { connect, params, WebSocketPolyfill }) {
    // As in a URL, so that the name means the same page as for the others.
    const id = decodeURIComponent(encodeURI(page).replaceAll('%25', '%'))
    const token = async () => {
      const given = await manager(url).getOrCreateDocAndToken(id)
      return params.token === undefined ? given : { ...given, token: params.token }
    }
    super(token, id, doc, { connect: false, WebSocketPolyfill, showDebuggerLink: false })
    this.mayConnect = false
    if (connect) this.connect()
  }

  /** Whether it may connect: by itself it comes back after every end of a connection, also after one that was asked for. */
  set shouldConnect (value) { this.mayConnect = value }
  get shouldConnect () { return this.mayConnect }

  async connect () {
    if (this.isClosing && !this.mayConnect) return
    this.mayConnect = true
    if (this.isConnecting) return this.reconnectSleeper?.wake()
    await super.connect()
    // It was told to come back while it was giving up.
    if (this.mayConnect && this.status === 'offline') await this.connect()
  }

  // It tries for as long as its status is not this one.
  setStatus (status) {
    super.setStatus(this.mayConnect ? status : 'error')
    if (!this.mayConnect) super.setStatus('offline')
  }

  async attemptToConnect (token) { return this.mayConnect && super.attemptToConnect(token) }

  disconnect () {
    this.mayConnect = false
    this.websocket?.close()
    this.clearHeartbeat()
    this.clearConnectionTimeout()
    this.reconnectSleeper?.wake()
  }

  websocketClose (event) {
    this.isClosing = true
    super.websocketClose(event)
    this.isClosing = false
  }

  destroy () {
    this.disconnect()
    super.destroy()
    removeAwarenessStates(this.awareness, [this.doc.clientID], this)
  }

  /** The connection itself, to be broken without a goodbye. */
  get ws () { return this.websocket }
}
