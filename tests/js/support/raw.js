// A bare socket that speaks the y-websocket protocol byte by byte, and looks at every frame it gets.

import WebSocket from 'ws'
import * as Y from 'yjs'
import * as encoding from 'lib0/encoding'
import * as decoding from 'lib0/decoding'

import { until, within } from './wait.js'

const open = new Set()

/** Bytes of a message built by `write(encoder)`. */
export function bytes (write) {
  const encoder = encoding.createEncoder()
  write(encoder)
  return encoding.toUint8Array(encoder)
}

/** Bytes written as hex digits; blanks do not count. */
export const hex = digits => Uint8Array.from(Buffer.from(digits.replace(/\s/g, ''), 'hex'))

/** All of these one after the other. */
export const joined = (...parts) => Uint8Array.from(Buffer.concat(parts))

const sync = (sub, body) => bytes(encoder => {
  encoding.writeVarUint(encoder, 0)
  encoding.writeVarUint(encoder, sub)
  encoding.writeVarUint8Array(encoder, body)
})

export const syncStep1 = stateVector => sync(0, stateVector)
export const syncStep2 = update => sync(1, update)
export const syncUpdate = update => sync(2, update)
export const queryAwareness = hex('03')

/** An awareness message with entries `[clientId, clock, state]`. */
export const awareness = (...entries) => bytes(encoder => {
  encoding.writeVarUint(encoder, 1)
  encoding.writeVarUint8Array(encoder, bytes(inner => {
    encoding.writeVarUint(inner, entries.length)
    for (const [clientId, clock, state] of entries) {
      encoding.writeVarUint(inner, clientId)
      encoding.writeVarUint(inner, clock)
      encoding.writeVarString(inner, JSON.stringify(state))
    }
  }))
})

/** What a frame from the server says; throws when it holds anything but exactly one message. */
export function parse (frame) {
  const decoder = decoding.createDecoder(frame)
  const message = parseMessage(decoder)
  if (decoding.hasContent(decoder)) {
    throw new Error(`more than one message in a frame: ${Buffer.from(frame).toString('hex').slice(0, 200)}`)
  }
  return message
}

function parseMessage (decoder) {
  const type = decoding.readVarUint(decoder)
  switch (type) {
    case 0: {
      const sub = decoding.readVarUint(decoder)
      const body = decoding.readVarUint8Array(decoder)
      return { kind: ['step1', 'step2', 'update'][sub] ?? `sync ${sub}`, body }
    }
    case 1: return { kind: 'awareness', entries: parseAwareness(decoding.readVarUint8Array(decoder)) }
    case 2: return { kind: 'auth', sub: decoding.readVarUint(decoder), reason: decoding.readVarString(decoder) }
    case 3: return { kind: 'query' }
    default: throw new Error(`a message of unknown type ${type}`)
  }
}

function parseAwareness (update) {
  const decoder = decoding.createDecoder(update)
  return Array.from({ length: decoding.readVarUint(decoder) }, () => ({
    clientId: decoding.readVarUint(decoder),
    clock: decoding.readVarUint(decoder),
    state: JSON.parse(decoding.readVarString(decoder))
  }))
}

/** A page's address with each part percent-encoded. */
export const pageUrl = (server, page, params = {}) => {
  const query = new URLSearchParams(params).toString()
  return `${server.socketUrl}/${page.split('/').map(encodeURIComponent).join('/')}${query && `?${query}`}`
}

export class RawClient {
  /** Connects; nothing is sent by itself. */
  static async connect (server, page, { params, ...options } = {}) {
    const client = new RawClient(server, page, { params, ...options })
    await client.whenOpen()
    return client
  }

  constructor (server, page, { params, ...options } = {}) {
    this.messages = []
    this.defects = []
    this.onMessage = () => {}
    this.socket = new WebSocket(pageUrl(server, page, params), options)
    this.socket.binaryType = 'nodebuffer'
    this.closed = new Promise(resolve => {
      this.socket.on('close', (code, reason) => {
        this.closeCode = code
        resolve({ code, reason: reason.toString() })
      })
    })
    this.socket.on('error', error => { this.error = error })
    this.socket.on('message', data => {
      try {
        const message = parse(new Uint8Array(data))
        this.messages.push(message)
        this.onMessage(message)
      } catch (error) {
        this.defects.push(error)
      }
    })
    open.add(this)
  }

  async whenOpen () {
    await until(() => `the socket opens${this.error ? `: ${this.error.message}` : ''}`,
      () => this.socket.readyState !== WebSocket.CONNECTING)
  }

  send (frame) { this.socket.send(frame) }

  /** Waits for a message that fits and takes it out of the inbox. */
  async next (kind, fits = () => true, withinMs) {
    let index = -1
    await until(
      () => `a ${kind} arrives; close code ${this.closeCode}; last in the inbox: ${this.messages.slice(-20).map(message => message.kind)}; ${this.defects}`,
      () => {
        if (this.defects.length > 0) throw this.defects[0]
        index = this.messages.findIndex(message => message.kind === kind && fits(message))
        return index >= 0
      }, withinMs)
    return this.messages.splice(index, 1)[0]
  }

  /** Waits for the close and gives its code and reason. */
  async whenClosed (withinMs) {
    return within('the server closes the connection', this.closed, withinMs)
  }

  get isOpen () { return this.socket.readyState === WebSocket.OPEN }

  /** A round trip: everything sent before has been handled when the answer is here. */
  async settle () {
    this.messages = this.messages.filter(message => message.kind !== 'step2')
    this.send(syncStep1(hex('00')))
    return this.next('step2')
  }

  /** Breaks the connection without a goodbye. */
  terminate () { this.socket.terminate() }

  dispose () {
    open.delete(this)
    this.socket.terminate()
  }
}

export function disposeRawClients () {
  for (const client of [...open]) client.dispose()
}

/** One update that inserts `text` at the start of the root text, by a client id of choice. */
export function textUpdate (text, clientId) {
  const doc = new Y.Doc()
  if (clientId !== undefined) doc.clientID = clientId
  doc.getText('text').insert(0, text)
  return Y.encodeStateAsUpdate(doc)
}

/** Whether an update carries the given client's content from `clock` on, `length` units. */
export function covers (update, clientId, clock = 0, length = 1) {
  const { structs } = Y.decodeUpdate(update)
  let known = clock
  const own = structs.filter(struct => struct.id.client === clientId).sort((a, b) => a.id.clock - b.id.clock)
  for (const struct of own) {
    if (struct.id.clock <= known) known = Math.max(known, struct.id.clock + struct.length)
  }
  return known >= clock + length
}
