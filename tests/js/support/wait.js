// Waiting for conditions: every wait names what it waits for and gives up after a bound.

import { setTimeout as pause } from 'node:timers/promises'

/** How often a condition is looked at, in milliseconds. */
const LOOK_EVERY_MS = 4

/**
 * Waits until `condition` gives something truthy and returns that.
 *
 * @param {string | (() => string)} what what is awaited, for the message of a failure
 * @param {() => any} condition may be async
 * @param {number} withinMs
 */
export async function until (what, condition, withinMs = 15_000) {
  const deadline = performance.now() + withinMs
  for (;;) {
    const value = await condition()
    if (value) return value
    if (performance.now() > deadline) {
      throw new Error(`not within ${withinMs} ms: ${typeof what === 'function' ? what() : what}`)
    }
    await pause(LOOK_EVERY_MS)
  }
}

/**
 * Looks at `condition` for the whole of `durationMs` and fails as soon as it does not hold.
 * Only for promises that are about time themselves ("nothing is acknowledged meanwhile").
 */
export async function holdsFor (what, durationMs, condition) {
  const end = performance.now() + durationMs
  while (performance.now() < end) {
    if (!(await condition())) throw new Error(`did not hold for ${durationMs} ms: ${what}`)
    await pause(LOOK_EVERY_MS * 5)
  }
}

/** Settles as `promise` does, or fails after `withinMs`. */
export async function within (what, promise, withinMs = 15_000) {
  let timer
  const late = new Promise((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`not within ${withinMs} ms: ${what}`)), withinMs)
  })
  try {
    return await Promise.race([promise, late])
  } finally {
    clearTimeout(timer)
  }
}
