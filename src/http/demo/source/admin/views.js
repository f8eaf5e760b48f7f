// What a section of the page is.

/**
 * @typedef {object} View
 * @property {string} title
 * @property {HTMLElement} element
 * @property {() => Promise<void>} show somebody looks at it now
 * @property {(overview: any) => void} take the server has told how it does; only while somebody looks
 */

/** Does something again and again, but never more often than every so many milliseconds, and once more at the end. */
export class Paced {
  #work
  #pause
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer
  #last = -Infinity

  /** @param {() => unknown} work @param {number} pause */
  constructor(work, pause) {
    this.#work = work
    this.#pause = pause
  }

  /** Wants it done soon. */
  want() {
    if (this.#timer !== undefined) return
    const wait = Math.max(0, this.#last + this.#pause - performance.now())
    this.#timer = setTimeout(() => {
      this.#timer = undefined
      this.#last = performance.now()
      this.#work()
    }, wait)
  }
}
