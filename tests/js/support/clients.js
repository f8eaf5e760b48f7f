// Real clients: every published generation of the y-websocket and Hocuspocus providers, y-socket.io, y-sweet, and a bare
// socket.io-client, behind one small face.

import * as Y13 from 'yjs'
import * as Y14 from '@y/y'
import WebSocket from 'ws'
import { WebsocketProvider as Provider15 } from 'y-websocket-1.5.4'
import { WebsocketProvider as Provider21 } from 'y-websocket-2.1.0'
import { WebsocketProvider as Provider31 } from 'y-websocket-3.1.0'
import { WebsocketProvider as Provider31rc } from 'y-websocket-3.1.0-rc.2'
import { WebsocketProvider as Provider40 } from '@y/websocket-4.0.0-3'

import { contentOf, contentOfUpdate, isComplete } from './content.js'
import { eventsOver } from './events.js'
import { GENERATIONS } from './hocuspocus.js'
import { until } from './wait.js'
import { overTransports } from './y_socketio.js'
import { YSweet } from './y_sweet.js'

/** The providers, each with the Yjs it is made for. */
export const VERSIONS = [
  { name: 'y-websocket 1.5.4', Provider: Provider15, Y: Y13 },
  { name: 'y-websocket 2.1.0', Provider: Provider21, Y: Y13 },
  { name: 'y-websocket 3.1.0', Provider: Provider31, Y: Y13 },
  { name: 'y-websocket 3.1.0-rc.2', Provider: Provider31rc, Y: Y13, confirms: true },
  { name: '@y/websocket 4.0.0-3', Provider: Provider40, Y: Y14 }
]

/** Every provider there is, each with the transports it may use. */
export const PROVIDERS = [
  ...VERSIONS,
  { name: 'y-socket.io 1.1.3', Provider: overTransports('websocket'), Y: Y13 },
  { name: 'y-socket.io 1.1.3, polling', Provider: overTransports('polling'), Y: Y13, breaksLate: true },
  { name: 'y-socket.io 1.1.3, polling first', Provider: overTransports('polling', 'websocket'), Y: Y13, breaksLate: true },
  { name: 'socket.io-client 4.8', Provider: eventsOver('websocket'), Y: Y13 },
  { name: 'socket.io-client 4.8, polling', Provider: eventsOver('polling'), Y: Y13, breaksLate: true },
  { name: 'y-sweet 0.9.1', Provider: YSweet, Y: Y13 },
  ...GENERATIONS.map(generation => ({ ...generation, Y: Y13 }))
]

/** The newest stable one, for tests that are not about versions. */
export const STABLE = VERSIONS[2]

/** The one that shows which local updates the server has confirmed. */
export const CONFIRMING = VERSIONS.find(version => version.confirms)

const open = new Set()

/** One user's editor: a document and its provider. */
export class Client {
  /**
   * @param {import('./server.js').Server} server
   * @param {string} page
   * @param {object} [options]
   * @param {(typeof VERSIONS)[number]} [options.version]
   * @param {Record<string, string>} [options.params] query parameters, such as a token
   * @param {boolean} [options.connect] false starts offline
   * @param {any} [options.presence] the awareness state; null shows nothing
   */
  constructor (server, page, { version = STABLE, params = {}, connect = true, presence, clientId, ...rest } = {}) {
    this.version = version
    this.page = page
    this.doc = new version.Y.Doc()
    if (clientId !== undefined) this.doc.clientID = clientId
    this.statuses = []
    this.closes = []
    this.provider = new version.Provider(server.socketUrl, page, this.doc, {
      WebSocketPolyfill: WebSocket, disableBc: true, connect: false, params, maxBackoffTime: 200, ...rest
    })
    // The provider puts one listener on the process each; many clients are not a leak.
    process.setMaxListeners(0)
    this.provider.on('status', ({ status }) => this.statuses.push(status))
    this.provider.on('connection-close', event => {
      this.closes.push(event === null ? null : { code: event.code, reason: event.reason })
    })
    if (presence !== undefined) this.awareness.setLocalState(presence)
    open.add(this)
    if (connect) this.online()
  }

  get clientId () { return this.doc.clientID }
  get awareness () { return this.provider.awareness }
  get content () { return contentOf(this.doc) }
  get text () { return this.content.text }
  get synced () { return this.provider.synced }

  /** Waits until the server's first answer has arrived. */
  async whenSynced (withinMs) {
    await until(() => `${this.version.name} is synced; closes ${JSON.stringify(this.closes)}`, () => this.synced, withinMs)
    return this
  }

  /** What this client sees of `other`'s presence. */
  presenceOf (other) {
    return this.awareness.getStates().get(typeof other === 'number' ? other : other.clientId)
  }

  /** Leaves politely. */
  offline () { this.provider.disconnect() }

  /** Comes (back). */
  online () {
    this.provider.shouldConnect = true
    this.provider.connect()
  }

  /** The connection breaks without a goodbye and stays down until `online()`. */
  breakConnection () {
    this.provider.shouldConnect = false
    this.provider.ws?.terminate()
  }

  /** The connection breaks without a goodbye; the provider comes back by itself. */
  bounce () { this.provider.ws?.terminate() }

  insertText (index, text) {
    root(this, 'text').insert(index, text)
  }

  deleteText (index, length) {
    root(this, 'text').delete(index, length)
  }

  get textLength () { return root(this, 'text').length }

  formatText (index, length, attributes) {
    root(this, 'text').format(index, length, attributes)
  }

  setEntry (key, value) {
    const map = root(this, 'map')
    if (this.version.Y === Y14) map.setAttr(key, value)
    else map.set(key, value)
  }

  deleteEntry (key) {
    const map = root(this, 'map')
    if (this.version.Y === Y14) map.deleteAttr(key)
    else map.delete(key)
  }

  insertItems (index, items) {
    root(this, 'array').insert(index, items)
  }

  deleteItems (index, length) {
    root(this, 'array').delete(index, length)
  }

  get arrayLength () { return root(this, 'array').length }

  insertElement (index, name, attribute, text) {
    const xml = root(this, 'xml')
    if (this.version.Y === Y14) {
      const element = new Y14.Type(name)
      element.setAttr('id', attribute)
      element.insert(0, text)
      xml.insert(index, [element])
    } else {
      const element = new Y13.XmlElement(name)
      element.setAttribute('id', attribute)
      element.insert(0, [new Y13.XmlText(text)])
      xml.insert(index, [element])
    }
  }

  setElementAttribute (index, value) {
    const element = root(this, 'xml').get(index)
    if (this.version.Y === Y14) element.setAttr('id', value)
    else element.setAttribute('id', value)
  }

  deleteElements (index, length) {
    root(this, 'xml').delete(index, length)
  }

  get elementCount () { return root(this, 'xml').length }

  /** Several edits as one update. */
  transact (edits) { this.doc.transact(edits) }

  dispose () {
    open.delete(this)
    this.provider.destroy()
    this.awareness.destroy()
    this.doc.destroy()
  }
}

function root (client, name) {
  if (client.version.Y === Y14) return client.doc.get(name)
  switch (name) {
    case 'text': return client.doc.getText(name)
    case 'map': return client.doc.getMap(name)
    case 'array': return client.doc.getArray(name)
    default: return client.doc.getXmlFragment(name)
  }
}

/** Ends all clients that are still there. */
export function disposeClients () {
  for (const client of [...open]) client.dispose()
}

/** Waits until all clients hold the same and gives that content. */
export async function converged (clients, withinMs = 20_000) {
  const [first, ...others] = clients
  const contents = () => clients.map(client => JSON.stringify(canonical(client.content)))
  await until(
    () => `${clients.length} clients hold the same: ${contents().join(' | ').slice(0, 2_000)}`,
    () => {
      const expected = JSON.stringify(canonical(first.content))
      return others.every(client => JSON.stringify(canonical(client.content)) === expected)
    },
    withinMs
  )
  return first.content
}

/**
 * Resolves when the page's stored snapshot holds exactly `content`.
 *
 * Clients have an edit before it is stored, and the last one to come may be what an earlier one, already stored, needs: until then
 * the snapshot has a gap.
 */
export function whenStored (server, page, content) {
  const expected = JSON.stringify(canonical(content))
  return until(`the snapshot of ${page} equals the clients`, async () => {
    const update = await server.snapshot(page)
    return isComplete(update) && JSON.stringify(canonical(contentOfUpdate(update))) === expected
  })
}

/** The same value with the keys of all its objects in order. */
export function canonical (value) {
  if (Array.isArray(value)) return value.map(canonical)
  if (value === null || typeof value !== 'object') return value
  return Object.fromEntries(Object.keys(value).sort().map(key => [key, canonical(value[key])]))
}
