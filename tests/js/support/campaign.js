// The durability campaign: people write as fast as they can, the server dies at a random moment, and everything that it had
// acknowledged must be in the store.

import * as Y from 'yjs'

import { RawClient, syncStep1, syncStep2, syncUpdate } from './raw.js'
import { until } from './wait.js'

/** A writer on a bare socket who knows exactly what was acknowledged. */
class Writer {
  constructor (server, page, random, number) {
    this.server = server
    this.page = page
    this.random = random
    this.number = number
    this.doc = new Y.Doc()
    this.doc.clientID = 1_000 + number
    /** What an acknowledgement has covered: own clocks below this, and ids of deleted own content. */
    this.ackedClock = 0
    this.ackedDeletes = new Set()
    this.edits = 0
    this.doc.on('update', (update, origin) => {
      if (origin === this) return
      this.edits++
      if (this.raw?.isOpen) this.raw.send(syncUpdate(update))
    })
  }

  get sentClock () { return Y.getState(this.doc.store, this.doc.clientID) }
  get hasUnacknowledged () { return this.sentClock > this.ackedClock }

  async connect () {
    this.raw = new RawClient(this.server, this.page)
    this.raw.onMessage = message => {
      this.raw.messages.length = 0
      if (message.kind === 'step1') this.raw.send(syncStep2(Y.encodeStateAsUpdate(this.doc, message.body)))
      if (message.kind !== 'step2' && message.kind !== 'update') return
      this.#noteAcknowledged(message.body)
      Y.applyUpdate(this.doc, message.body, this)
    }
    await this.raw.whenOpen()
    this.raw.send(syncStep1(Y.encodeStateVector(this.doc)))
  }

  // Own content in a frame from the server is the acknowledgement of it. Nobody else ever deletes what this writer deletes,
  // so that holds for deletions as well.
  #noteAcknowledged (update) {
    const { structs, ds } = Y.decodeUpdate(update)
    for (const { id, length } of structs) {
      if (id.client === this.doc.clientID) this.ackedClock = Math.max(this.ackedClock, id.clock + length)
    }
    for (const { clock, len } of ds.clients.get(this.doc.clientID) ?? []) {
      for (let i = clock; i < clock + len; i++) this.ackedDeletes.add(i)
    }
  }

  /** One small edit of a random kind. */
  write () {
    const { doc, random } = this
    const die = random.below(10)
    if (die < 6) {
      const text = doc.getText('text')
      text.insert(random.below(text.length + 1), random.pick(['a', 'be', 'see ', 'dee']))
    } else if (die < 9) {
      // Replacing one's own entry deletes one's own earlier one.
      doc.getMap('map').set(`of ${this.number}`, this.edits)
    } else {
      doc.getArray('array').push([this.edits])
    }
  }
}

/** What of the acknowledged is not in a document. */
function missingFrom (doc, writer) {
  const missing = []
  const { clientID } = writer.doc
  const known = Y.getState(doc.store, clientID)
  if (known < writer.ackedClock) missing.push(`${writer.page}: writer ${writer.number} clocks ${known}..${writer.ackedClock}`)
  for (const clock of writer.ackedDeletes) {
    if (clock < known && !Y.getItem(doc.store, Y.createID(clientID, clock)).deleted) {
      missing.push(`${writer.page}: writer ${writer.number} deletion of ${clock}`)
    }
  }
  return missing
}

/** The stored document. What an edit builds on may come after it, so something may wait in there as long as not everybody is back. */
function decode (snapshot) {
  const doc = new Y.Doc({ gc: true })
  if (snapshot) Y.applyUpdate(doc, snapshot)
  return doc
}

/**
 * Runs the campaign and gives what it counted; `missing` lists acknowledged content that was not there after a restart.
 *
 * @param {object} plan
 * @param {import('./server.js').Server} plan.server
 * @param {number} plan.rounds
 * @param {import('./random.js').Random} plan.random
 * @param {(round: number) => Promise<void>} plan.crash ends the server, and whatever else, as a crash would
 * @param {(round: number) => Promise<void>} plan.recover starts everything again and waits until it is ready
 */
export async function campaign ({ server, rounds, random, crash, recover, pages = 3, writersPerPage = 2 }) {
  const names = Array.from({ length: pages }, (_, index) => `campaign/${index}`)
  const writers = names.flatMap((page, p) =>
    Array.from({ length: writersPerPage }, (_, w) => new Writer(server, page, random, p * writersPerPage + w)))
  const counted = { rounds: 0, edits: 0, acknowledged: 0, roundsWithEditsUnderWay: 0, missing: [] }
  for (let round = 0; round < rounds; round++) {
    await Promise.all(writers.map(writer => writer.connect()))
    const before = writers.map(writer => writer.ackedClock)
    const end = performance.now() + 20 + random.below(180)
    // At least one acknowledgement a round, or the round would prove nothing.
    await until(() => `something is acknowledged in round ${round}`, () => {
      for (const writer of writers) for (let i = 0; i < 3; i++) writer.write()
      return performance.now() > end && writers.some((writer, index) => writer.ackedClock > before[index])
    })
    await crash(round)
    await Promise.all(writers.map(writer => writer.raw.whenClosed()))
    if (writers.some(writer => writer.hasUnacknowledged)) counted.roundsWithEditsUnderWay++
    await recover(round)
    const stored = new Map()
    for (const page of names) stored.set(page, decode(await server.snapshot(page)))
    for (const writer of writers) counted.missing.push(...missingFrom(stored.get(writer.page), writer))
    counted.rounds++
    if (counted.missing.length > 0) break
  }
  counted.edits = writers.reduce((sum, writer) => sum + writer.edits, 0)
  counted.acknowledged = writers.reduce((sum, writer) => sum + writer.ackedClock + writer.ackedDeletes.size, 0)
  if (counted.missing.length === 0) await settle(server, writers, names)
  for (const writer of writers) writer.raw.dispose()
  return counted
}

/** In the end everybody comes back once more, and then everything is acknowledged and equal everywhere. */
async function settle (server, writers, names) {
  await Promise.all(writers.map(writer => writer.connect()))
  for (const page of names) {
    const here = writers.filter(writer => writer.page === page)
    const text = writer => writer.doc.getText('text').toString()
    await until(`the writers of ${page} are equal`, () => here.every(writer => text(writer) === text(here[0])))
    await until(`the store has all of ${page}`, async () => {
      const stored = decode(await server.snapshot(page))
      return !stored.store.pendingStructs && !stored.store.pendingDs &&
        stored.getText('text').toString() === text(here[0]) &&
        here.every(writer => Y.getState(stored.store, writer.doc.clientID) === writer.sentClock)
    })
  }
}
