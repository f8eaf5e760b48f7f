// The Hocuspocus providers behind the face of a y-websocket one, so that the same scenarios can be played with them.

import WebSocket from 'ws'
import * as V2 from '@hocuspocus/provider-2.15'
import * as V3 from '@hocuspocus/provider-3.4'
import * as V4 from '@hocuspocus/provider-4'

/** The provider takes its listeners off a socket before it closes it, which must not be the end of the process. */
class Socket extends WebSocket {
  constructor (...args) {
    super(...args)
    this.on('error', () => {})
  }
}

/** Makes a provider class of a generation; `options` are its own settings. */
const faceOf = ({ HocuspocusProvider, HocuspocusProviderWebsocket }, options = {}) => class {
  constructor (url, page, document, { connect, params, maxBackoffTime, token = params.token ?? null, socket }) {
    this.socket = socket ?? socketOf(HocuspocusProviderWebsocket, url, maxBackoffTime)
    this.ownsSocket = socket === undefined
    /** Why the server denied this page. */
    this.refusals = []
    this.stateless = []
    this.provider = new HocuspocusProvider({
      websocketProvider: this.socket,
      // A y-websocket URL is decoded once on its way; here the name goes as it is.
      name: decodeURIComponent(page),
      document,
      token,
      broadcast: false,
      onAuthenticationFailed: ({ reason }) => this.refusals.push(reason),
      onStateless: ({ payload }) => this.stateless.push(payload),
      ...options
    })
    // Since the third generation a socket that is given is not entered by itself.
    this.provider.attach?.()
    if (connect) this.connect()
  }

  get awareness () { return this.provider.awareness }
  get synced () { return this.provider.synced }
  /** The connection itself, to be broken without a goodbye. */
  get ws () { return this.socket.webSocket }
  set shouldConnect (value) { this.socket.shouldConnect = value }
  get shouldConnect () { return this.socket.shouldConnect }

  on (event, listener) {
    if (event === 'connection-close') this.socket.on('close', ({ event }) => listener(event))
    else this.socket.on(event, listener)
  }

  connect () {
    // It returns early while an old connection is still closing, and comes back after that only if it wants to.
    this.socket.shouldConnect = true
    this.socket.connect()
  }

  disconnect () { this.socket.disconnect() }

  destroy () {
    this.provider.destroy()
    if (this.ownsSocket) this.socket.destroy()
  }
}

/** A socket to the server whose y-websocket address is `url`, for one provider or several. */
function socketOf (HocuspocusProviderWebsocket, url, maxBackoffTime) {
  return new HocuspocusProviderWebsocket({
    url: url.replace(/\/ws$/, '/hocuspocus'),
    WebSocketPolyfill: Socket,
    connect: false,
    autoConnect: false,
    delay: maxBackoffTime / 2,
    minDelay: maxBackoffTime / 4,
    maxDelay: maxBackoffTime,
    quiet: true
  })
}

/** The generations. */
export const GENERATIONS = [
  { name: 'hocuspocus 2.15.3', Provider: faceOf(V2), openSocket: server => socketOf(V2.HocuspocusProviderWebsocket, server.socketUrl, 200) },
  { name: 'hocuspocus 3.4.4', Provider: faceOf(V3), openSocket: server => socketOf(V3.HocuspocusProviderWebsocket, server.socketUrl, 200) },
  { name: 'hocuspocus 4.8.0', Provider: faceOf(V4), openSocket: server => socketOf(V4.HocuspocusProviderWebsocket, server.socketUrl, 200) },
  {
    name: 'hocuspocus 4.8.0 with sessions',
    Provider: faceOf(V4, { sessionAwareness: true }),
    openSocket: server => socketOf(V4.HocuspocusProviderWebsocket, server.socketUrl, 200),
    hasSessions: true
  }
]
