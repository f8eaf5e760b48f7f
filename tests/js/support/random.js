// Reproducible randomness: the same seed gives the same choices.

/** A small generator (splitmix32); good enough for choosing edits, not for secrets. */
export class Random {
  constructor (seed) {
    this.seed = seed >>> 0
    this.state = this.seed
  }

  /** A 32-bit unsigned number. */
  next () {
    this.state = (this.state + 0x9e3779b9) >>> 0
    let z = this.state
    z = Math.imul(z ^ (z >>> 16), 0x21f0aaad)
    z = Math.imul(z ^ (z >>> 15), 0x735a2d97)
    return (z ^ (z >>> 15)) >>> 0
  }

  /** A whole number from 0 to `bound - 1`. */
  below (bound) {
    return this.next() % bound
  }

  /** True in `percent` of 100 cases. */
  chance (percent) {
    return this.below(100) < percent
  }

  /** One of the given values. */
  pick (values) {
    return values[this.below(values.length)]
  }
}

/** The seed of a run: from `PAGEROOM_TEST_SEED`, else a fresh one. It is printed, so that a failure can be repeated. */
export function seedOfRun () {
  const given = process.env.PAGEROOM_TEST_SEED
  return given === undefined ? Math.floor(Math.random() * 0x7fffffff) : Number(given)
}
