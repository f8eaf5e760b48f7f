// What the server tells by itself: one stream of overviews, opened again when it breaks.

import { ApiError } from './api.js'
import { EventStreamParser } from './event-stream.js'

const FIRST_PAUSE_MS = 500
const LONGEST_PAUSE_MS = 10_000
/** The server says something every 15 seconds at least. */
const SILENCE_MS = 40_000
/** The server ends a stream after a while. One that has lasted for so long is opened again at once, and nothing is lost. */
const LONG_MS = 5_000

/** @typedef {'connecting' | 'live' | 'lost'} LiveKind */

export class Live {
  #api
  #ending = new AbortController()
  /** @type {(overview: any) => void} */
  onOverview = () => {}
  /** @type {(kind: LiveKind) => void} */
  onKind = () => {}

  /** @param {import('./api.js').Api} api */
  constructor(api) {
    this.#api = api
  }

  /** Follows until it is stopped, or signed out. */
  async follow() {
    let pause = FIRST_PAUSE_MS
    this.onKind('connecting')
    while (!this.#ending.signal.aborted) {
      try {
        const begun = performance.now()
        const told = await this.#read()
        if (told) pause = FIRST_PAUSE_MS
        if (told && performance.now() - begun >= LONG_MS) continue
      } catch (error) {
        if (error instanceof ApiError && error.isSignedOut) return
      }
      if (this.#ending.signal.aborted) return
      this.onKind('lost')
      await new Promise((resolve) => setTimeout(resolve, pause))
      pause = Math.min(pause * 2, LONGEST_PAUSE_MS)
    }
  }

  stop() {
    this.#ending.abort()
  }

  /** Reads one stream to its end. Whether anything was told, and nothing of an end. */
  async #read() {
    const silence = new AbortController()
    let told = false
    let clock = setTimeout(() => silence.abort(), SILENCE_MS)
    try {
      const body = await this.#api.open('api/admin/events', AbortSignal.any([this.#ending.signal, silence.signal]))
      const parser = new EventStreamParser()
      const reader = body.pipeThrough(new TextDecoderStream()).getReader()
      for (;;) {
        const { done, value } = await reader.read()
        if (done) return told
        clearTimeout(clock)
        clock = setTimeout(() => silence.abort(), SILENCE_MS)
        for (const { event, data } of parser.take(value)) {
          if (event === 'end') told = false
          if (event !== 'overview') continue
          told = true
          this.onKind('live')
          this.onOverview(JSON.parse(data))
        }
      }
    } finally {
      clearTimeout(clock)
    }
  }
}
