// What was written here and is not yet confirmed to be stored: the memory behind the words "saving" and "saved".
//
// Everything in a Yjs document has an id, a client and a clock; a deletion names the ids that it deletes. The server sends an
// author's own update back only after it is durably stored, so whatever comes back in an update is stored. The echo of an
// update may never come when the connection breaks in between. Therefore the answer to the server's state vector repeats
// everything unconfirmed, even what the server says it has: having it is not having stored it, and the server echoes what
// is repeated as well.

import { decodeUpdate, Skip } from 'yjs'

/** @typedef {{ start: number, end: number }} Range */

/** Sets of clocks, by client, as sorted ranges that do not touch. */
class Ids {
  /** @type {Map<number, Range[]>} */
  #byClient = new Map()

  get isEmpty() {
    return this.#byClient.size === 0
  }

  /** @param {number} client @param {number} start @param {number} end (exclusive) */
  add(client, start, end) {
    if (start >= end) return
    /** @type {Range[]} */
    const kept = []
    for (const range of this.#byClient.get(client) ?? []) {
      if (range.end < start || range.start > end) {
        kept.push(range)
      } else {
        start = Math.min(start, range.start)
        end = Math.max(end, range.end)
      }
    }
    kept.push({ start, end })
    this.#byClient.set(client, kept.sort((a, b) => a.start - b.start))
  }

  /** @param {number} client @param {number} start @param {number} end (exclusive) @returns whether anything was removed */
  remove(client, start, end) {
    const ranges = this.#byClient.get(client)
    if (!ranges?.some((range) => range.start < end && start < range.end)) return false
    const left = ranges
      .flatMap((range) => [
        { start: range.start, end: Math.min(range.end, start) },
        { start: Math.max(range.start, end), end: range.end },
      ])
      .filter((range) => range.start < range.end)
    if (left.length > 0) this.#byClient.set(client, left)
    else this.#byClient.delete(client)
    return true
  }

  /** The first clock of each client. */
  *starts() {
    for (const [client, [first]] of this.#byClient) yield { client, clock: first.start }
  }
}

/** Own content that the server has not yet confirmed to be stored. */
export class Unsaved {
  #inserted = new Ids()
  #deleted = new Ids()

  get isEmpty() {
    return this.#inserted.isEmpty && this.#deleted.isEmpty
  }

  /** Notes an update that was made here. @param {Uint8Array} update */
  wrote(update) {
    eachId(
      update,
      (client, start, end) => this.#inserted.add(client, start, end),
      (client, start, end) => this.#deleted.add(client, start, end),
    )
  }

  /** Forgets what an update from the server shows to be stored. @param {Uint8Array} update @returns whether there was any */
  confirmed(update) {
    if (this.isEmpty) return false
    let any = false
    eachId(
      update,
      (client, start, end) => (any = this.#inserted.remove(client, start, end) || any),
      (client, start, end) => (any = this.#deleted.remove(client, start, end) || any),
    )
    return any
  }

  /**
   * The server's state vector, lowered so that a diff against it contains everything unconfirmed. (A diff contains all
   * deletions anyway.)
   * @param {Map<number, number>} stateVector next clock by client
   */
  lower(stateVector) {
    const lowered = new Map(stateVector)
    for (const { client, clock } of this.#inserted.starts()) {
      lowered.set(client, Math.min(clock, lowered.get(client) ?? 0))
    }
    return lowered
  }
}

/**
 * @param {Uint8Array} update
 * @param {(client: number, start: number, end: number) => void} inserted
 * @param {(client: number, start: number, end: number) => void} deleted
 */
function eachId(update, inserted, deleted) {
  const { structs, ds } = decodeUpdate(update)
  for (const { id, length, constructor } of structs) {
    if (constructor !== Skip) inserted(id.client, id.clock, id.clock + length)
  }
  for (const [client, ranges] of ds.clients) {
    for (const { clock, len } of ranges) deleted(client, clock, clock + len)
  }
}
