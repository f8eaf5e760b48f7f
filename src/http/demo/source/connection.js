// One page's document and its connection: sends what is written here, and knows what the server has stored of it.

import * as decoding from 'lib0/decoding'
import * as encoding from 'lib0/encoding'
import { messageYjsSyncStep1, messageYjsUpdate, writeSyncStep2, writeUpdate } from 'y-protocols/sync'
import { messageAuth, messageSync, WebsocketProvider } from 'y-websocket'
import * as Y from 'yjs'

import { socketPath } from './address.js'
import { reasonSentence, refusalOf } from './status.js'
import { Unsaved } from './unsaved.js'

/** Without any confirmation for this long, "saving" is no longer a fair word. */
const PATIENCE_MS = 5_000
/** After this long unconfirmed content is sent again, then after twice that, and so on. */
const FIRST_REPEAT_MS = 10_000
const LAST_REPEAT_MS = 300_000
const BUSY_SERVER_PAUSE_MS = 30_000

export class Connection {
  doc = new Y.Doc()
  /** @type {import('./status.js').Facts} */
  facts = { link: 'connecting', unsaved: false, late: false, readOnly: false, refusal: null, rejected: null }
  /** Called when {@link facts} have changed. */
  onChange = () => {}
  /** Called when the server says that this user may not change the page, after a change was tried or not. */
  onReadOnly = () => {}

  #unsaved = new Unsaved()
  #repeatMs = FIRST_REPEAT_MS
  /** @type {Partial<Record<'late' | 'repeat' | 'retry', ReturnType<typeof setTimeout>>>} */
  #timers = {}

  /** @param {{ host: string, page: string, token: string | null, readOnly: boolean }} options `host` with its ws: or wss: */
  constructor({ host, page, token, readOnly }) {
    this.facts.readOnly = readOnly
    this.provider = new WebsocketProvider(`${host}/ws`, socketPath(page), this.doc, {
      params: token ? { token } : {},
      // Tabs of one browser would exchange edits behind the server's back, and nobody could say what it has.
      disableBc: true,
      connect: false,
    })
    this.awareness = this.provider.awareness
    this.doc.on('update', this.#wrote)
    this.#listenToServer()
    this.provider.on('sync', (synced) => synced && this.#set({ link: 'online', refusal: null }))
    this.provider.on('connection-close', () => this.#set({ link: 'offline' }))
    this.provider.on('closed', ({ code, reason }) => this.#refused(code, reason))
  }

  connect() {
    this.provider.connect()
  }

  destroy() {
    for (const timer of Object.values(this.#timers)) clearTimeout(timer)
    this.onChange = this.onReadOnly = () => {}
    this.provider.destroy()
    this.doc.destroy()
  }

  #listenToServer() {
    const handlers = this.provider.messageHandlers
    const sync = handlers[messageSync]
    handlers[messageSync] = (encoder, decoder, ...rest) => {
      const peek = decoding.clone(decoder)
      const step = decoding.readVarUint(peek)
      const payload = decoding.readVarUint8Array(peek)
      if (step === messageYjsSyncStep1) {
        const lacks = this.#unsaved.lower(Y.decodeStateVector(payload))
        encoding.writeVarUint(encoder, messageSync)
        writeSyncStep2(encoder, this.doc, Y.encodeStateVector(lacks))
        return
      }
      sync(encoder, decoder, ...rest)
      // Not from a step 2: a server whose store is in trouble sends those from memory.
      if (step === messageYjsUpdate && this.#unsaved.confirmed(payload)) this.#progress()
    }
    handlers[messageAuth] = (_encoder, decoder) => {
      decoding.readVarUint(decoder)
      this.#rejected(decoding.readVarString(decoder))
    }
  }

  #wrote = (/** @type {Uint8Array} */ update, /** @type {unknown} */ origin) => {
    if (origin === this.provider || this.facts.readOnly) return
    const first = this.#unsaved.isEmpty
    this.#unsaved.wrote(update)
    if (first && !this.#unsaved.isEmpty) this.#progress()
  }

  /** Something began to wait, or some of it was confirmed: the clocks of impatience start anew. */
  #progress() {
    clearTimeout(this.#timers.late)
    clearTimeout(this.#timers.repeat)
    this.#repeatMs = FIRST_REPEAT_MS
    const unsaved = !this.#unsaved.isEmpty
    if (unsaved) {
      this.#timers.late = setTimeout(() => this.#set({ late: true }), PATIENCE_MS)
      this.#timers.repeat = setTimeout(() => this.#repeat(), this.#repeatMs)
    }
    this.#set({ unsaved, late: false, rejected: unsaved ? this.facts.rejected : null })
  }

  /** A confirmation can get lost on a connection that stays, when the server drops messages to a slow reader. */
  #repeat() {
    this.#repeatMs = Math.min(2 * this.#repeatMs, LAST_REPEAT_MS)
    this.#timers.repeat = setTimeout(() => this.#repeat(), this.#repeatMs)
    const { ws, wsconnected } = this.provider
    if (!ws || !wsconnected) return // the next connection repeats it anyway
    const known = this.#unsaved.lower(Y.decodeStateVector(Y.encodeStateVector(this.doc)))
    const encoder = encoding.createEncoder()
    encoding.writeVarUint(encoder, messageSync)
    writeUpdate(encoder, Y.encodeStateAsUpdate(this.doc, Y.encodeStateVector(known)))
    ws.send(encoding.toUint8Array(encoder))
  }

  /** @param {string} reason */
  #rejected(reason) {
    if (/^read.only/i.test(reason)) this.onReadOnly()
    else this.#set({ rejected: `The server did not take your last change: ${reasonSentence(reason)}.` })
  }

  /** @param {number} code @param {string} reason */
  #refused(code, reason) {
    const refusal = refusalOf(code, reason)
    this.#set({ link: 'offline', refusal })
    if (refusal?.retries) this.#timers.retry = setTimeout(() => this.retry(), BUSY_SERVER_PAUSE_MS)
  }

  /** Connects once more after a refusal. */
  retry() {
    this.#set({ refusal: null, link: 'connecting' })
    this.connect()
  }

  /** @param {Partial<import('./status.js').Facts>} facts */
  #set(facts) {
    this.facts = { ...this.facts, ...facts }
    this.onChange()
  }
}
