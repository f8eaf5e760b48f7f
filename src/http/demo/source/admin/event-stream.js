// Reads an event stream (text/event-stream) piece by piece. No DOM, no network.
//
// The browser's own reader cannot send a token in a header, and a token does not belong into an address.

/** Longest event that is read, in characters: more than the server has to say. */
const MAX_EVENT = 1_000_000

/** @typedef {{ event: string, data: string }} StreamEvent */

export class EventStreamParser {
  #rest = ''
  #event = ''
  /** @type {string[]} */
  #data = []
  #length = 0

  /** Takes the next piece, wherever it was cut, and gives the events that are whole with it. @param {string} piece @returns {StreamEvent[]} */
  take(piece) {
    this.#rest += piece
    // A line feed that belongs to a carriage return may be in the next piece.
    const lines = this.#rest.split(/\r\n|\n|\r(?!$)/)
    this.#rest = lines.pop() ?? ''
    const events = []
    for (const line of lines) {
      const event = this.#line(line)
      if (event) events.push(event)
    }
    if (this.#rest.length + this.#length > MAX_EVENT) throw new Error('an event of the server is too long')
    return events
  }

  /** @param {string} line */
  #line(line) {
    if (line === '') return this.#end()
    const colon = line.indexOf(':')
    if (colon === 0) return null
    const field = colon < 0 ? line : line.slice(0, colon)
    const value = colon < 0 ? '' : line.slice(colon + 1).replace(/^ /, '')
    if (field === 'event') this.#event = value
    if (field === 'data') {
      this.#data.push(value)
      this.#length += value.length
    }
    return null
  }

  #end() {
    const event = this.#data.length === 0 ? null : { event: this.#event || 'message', data: this.#data.join('\n') }
    this.#event = ''
    this.#data = []
    this.#length = 0
    return event
  }
}
