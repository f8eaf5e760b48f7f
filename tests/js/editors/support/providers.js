// The providers that every editor is tried with. A new one is a line here: how it connects, and what it is asked afterwards.

import { WebSocket as OverWebSocket } from 'socket.io-client'
import { SocketIOProvider } from 'y-socket.io'
import { WebsocketProvider } from 'y-websocket'

/** The same provider, which ends for good when it is destroyed. */
class EndingSocketIOProvider extends SocketIOProvider {
  // It opens a channel to say goodbye even where channels are switched off.
  disconnectBc = () => {}

  destroy () {
    super.destroy()
    // It leaves a connection alone that is only being tried.
    this.socket.disconnect()
  }
}

/**
 * Each `connect`s a document to a page of the server at `url` (`http://…`) and gives something with `awareness`, `synced`
 * (whether the server has answered) and `destroy()`.
 */
export const PROVIDERS = [
  {
    name: 'y-websocket 3.1.0',
    connect: (url, page, doc) => new WebsocketProvider(`${url.replace(/^http/, 'ws')}/ws`, page, doc, { disableBc: true })
  },
  {
    name: 'y-socket.io 1.1.3',
    // The transport of browsers, in Node as well; and everybody has a connection of their own.
    connect: (url, page, doc) => new EndingSocketIOProvider(url, page, doc, { disableBc: true }, { transports: [OverWebSocket], multiplex: false })
  }
]
