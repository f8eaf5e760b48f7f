// Who is here and who is typing, from the awareness states of all clients; what strangers send is tidied before anything shows it.

import { readableColor, tidyName } from './user.js'

const TYPING_MS = 2_000

/** @typedef {{ client: number, name: string, color: string, typing: boolean, self: boolean }} Person */

export class Presence {
  #awareness
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer
  /** Called when anything about the people has changed. */
  onChange = () => {}

  /** Must be made before any editor listens to the same awareness. @param {import('y-protocols/awareness').Awareness} awareness @param {import('./user.js').User} user */
  constructor(awareness, user) {
    this.#awareness = awareness
    awareness.setLocalState({ user, typing: false })
    awareness.on('change', (/** @type {{ added: number[], updated: number[] }} */ { added, updated }) => {
      for (const client of [...added, ...updated]) this.#tidy(client)
      this.onChange()
    })
  }

  /** @param {number} client */
  #tidy(client) {
    const state = this.#awareness.states.get(client)
    if (state !== undefined && client !== this.#awareness.clientID) this.#awareness.states.set(client, tidyState(state))
  }

  /** @param {import('./user.js').User} user */
  set user(user) {
    this.#awareness.setLocalStateField('user', user)
  }

  /** Everybody, oneself first. @returns {Person[]} */
  get people() {
    const own = this.#awareness.clientID
    return [...this.#awareness.getStates()]
      .map(([client, { user, typing }]) => ({
        client,
        name: user.name,
        color: user.color,
        typing: typing === true,
        self: client === own,
      }))
      .sort((a, b) => Number(b.self) - Number(a.self) || a.client - b.client)
  }

  /** To be called at every own edit. */
  typed() {
    clearTimeout(this.#timer)
    this.#timer = setTimeout(() => this.stoppedTyping(), TYPING_MS)
    this.#setTyping(true)
  }

  stoppedTyping() {
    clearTimeout(this.#timer)
    this.#setTyping(false)
  }

  /** @param {boolean} typing */
  #setTyping(typing) {
    const state = this.#awareness.getLocalState()
    if (state && state.typing !== typing) this.#awareness.setLocalStateField('typing', typing)
  }
}

/** "Ada and Bob are typing…" @param {Person[]} people */
export function typingText(people) {
  const names = people.filter((person) => person.typing && !person.self).map((person) => person.name)
  if (names.length === 0) return ''
  if (names.length === 1) return `${names[0]} is typing…`
  if (names.length === 2) return `${names[0]} and ${names[1]} are typing…`
  return `${names[0]}, ${names[1]} and ${names.length - 2} more are typing…`
}

/** An awareness state as the editors may use it. @param {any} state */
export function tidyState(state) {
  const color = readableColor(state?.user?.color)
  const cursor = state?.cursor
  const placed = isPosition(cursor?.anchor) && isPosition(cursor?.head)
  return {
    user: { name: tidyName(state?.user?.name), color, colorLight: `${color}33` },
    typing: state?.typing === true,
    cursor: placed ? { anchor: cursor.anchor, head: cursor.head } : null,
  }
}

/** Whether it is a relative position of Yjs, as JSON. @param {any} position */
function isPosition(position) {
  if (!position || typeof position !== 'object') return false
  const { type = null, tname = null, item = null } = position
  const isName = tname === null || typeof tname === 'string'
  return isName && [type, item].every(isIdOrNull) && [type, tname, item].some((part) => part !== null)
}

/** @param {any} id */
function isIdOrNull(id) {
  return id === null || (Number.isSafeInteger(id.client) && Number.isSafeInteger(id.clock) && id.clock >= 0)
}
