// The first section: who this server is and how it does, in numbers that follow it.

import { el, say } from './dom.js'
import { QUEUES, count, duration, moment, size } from './words.js'

/** @typedef {import('./views.js').View} View */

/** One line of a list of terms: its element, and what says its value. @param {string} term */
function line(term) {
  const value = el('dd', {}, '–')
  return { element: el('div', {}, el('dt', {}, term), value), value }
}

/** @param {string} title @param {...HTMLElement} content */
function card(title, ...content) {
  return el('section', { class: 'card', 'aria-label': title }, el('h3', {}, title), ...content)
}

/** Numbers of an overview, as terms with words for them. @type {[string, string, (overview: any) => string][]} */
const LINES = [
  ['This server', 'State', ({ problem }) => (problem ? `Not ready: ${problem}` : 'Ready')],
  ['This server', 'Node', ({ node }) => `${node.id} on ${node.host}`],
  ['This server', 'Version', ({ node }) => node.version],
  ['This server', 'Up for', ({ node }) => duration((Date.now() - Date.parse(node.startedAt)) / 1000)],
  ['This server', 'Started', ({ node }) => moment(node.startedAt)],
  ['This server', 'Store', ({ node }) => node.store],
  ['This server', 'Address', ({ node }) => node.address ?? 'not known'],
  ['This server', 'Who may edit', ({ node }) => (node.open ? 'Everybody, as a guest' : 'Whoever has a role')],
  ['Here now', 'Open pages', ({ rooms }) => count(rooms.open)],
  ['Here now', 'Members of pages', ({ rooms }) => count(rooms.members)],
  ['Here now', 'Connections', ({ connections: { open, limit } }) => (limit === 0 ? count(open) : `${count(open)} of ${count(limit)}`)],
  ['Here now', 'y-websocket', ({ connections }) => count(connections.yWebsocket)],
  ['Here now', 'Hocuspocus', ({ connections }) => count(connections.hocuspocus)],
  ['Here now', 'Socket.IO', ({ connections }) => count(connections.socketIo)],
  ['Here now', 'y-sweet', ({ connections }) => count(connections.ySweet)],
  ['Here now', 'HTTP alone', ({ connections }) => count(connections.http)],
  ['Per second', 'Messages in', ({ rates }) => (rates ? count(rates.messages) : '–')],
  ['Per second', 'Payload in', ({ rates }) => (rates ? size(rates.receivedBytes) : '–')],
  ['Per second', 'Frames out', ({ rates }) => (rates ? count(rates.frames) : '–')],
  ['Per second', 'Bytes out', ({ rates }) => (rates ? size(rates.sentBytes) : '–')],
  ['Since the start', 'Messages in', ({ totals }) => count(totals.messages)],
  ['Since the start', 'Frames out', ({ totals }) => count(totals.frames)],
  ['Since the start', 'Brought up to date', ({ totals }) => count(totals.resyncs)],
  ['Since the start', 'Refused', ({ totals }) => count(totals.refusals)],
  ['Since the start', 'Errors of the server', ({ totals }) => count(totals.errors)],
]

const ALONE = 'All numbers are of this server. Where several use one database, they do not see each other’s users, and each has a page like this of its own.'

/** @implements {View} */
export class OverviewView {
  title = 'Overview'
  #lines = LINES.map(([group, term, words]) => ({ group, words, ...line(term) }))
  #queues = el('div', { class: 'queues' })
  /** @type {Map<string, { meter: HTMLMeterElement, words: HTMLElement }>} */
  #meters = new Map()
  element

  constructor() {
    const groups = [...new Set(LINES.map(([group]) => group))]
    const [first, second, ...others] = groups.map((group) => {
      const lines = this.#lines.filter((found) => found.group === group)
      const alone = group === 'This server' ? [el('p', { class: 'hint' }, ALONE)] : []
      return card(group, el('dl', {}, ...lines.map(({ element }) => element)), ...alone)
    })
    this.element = el('div', { class: 'cards' }, first, second, card('Queues', this.#queues), ...others)
  }

  /** @param {any} overview */
  take(overview) {
    for (const { value, words } of this.#lines) say(value, words(overview))
    this.#lines[0].value.dataset.state = overview.problem ? 'bad' : 'good'
    for (const { name, depth, bound } of overview.queues) this.#showQueue(name, depth, bound)
  }

  async show() {}

  /** @param {string} name @param {number} depth @param {number | null} bound */
  #showQueue(name, depth, bound) {
    const { name: title, unit } = QUEUES[name] ?? { name, unit: count }
    let shown = this.#meters.get(name)
    if (!shown) {
      const id = `queue-${name}`
      const meter = el('meter', { id, min: 0, max: 1, low: 0.5, high: 0.8, optimum: 0, value: 0 })
      const words = el('span', { class: 'queue-words' })
      shown = { meter, words }
      this.#meters.set(name, shown)
      this.#queues.append(el('div', { class: 'queue' }, el('label', { for: id }, title), words, meter))
    }
    // A bound may be so far away that nothing would be seen of what waits.
    shown.meter.value = bound === null || bound === 0 ? 0 : Math.min(1, depth / bound)
    say(shown.words, bound === null ? unit(depth) : `${unit(depth)} of ${unit(bound)}`)
  }
}
