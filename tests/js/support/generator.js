// Documents made by real Yjs from a seed: several authors who write every kind of content, meet each other in any order, undo,
// and collect their garbage or not. The same seed gives the same documents and the same updates.

import * as Y13 from 'yjs'
import * as Y135 from 'yjs-13-5'

import { Random } from './random.js'

/** The versions of Yjs that authors write with. */
const LIBRARIES = [Y13, Y13, Y135]

/** Kinds of content that a run may leave out (`PAGEROOM_TEST_WITHOUT`, a comma list). */
const WITHOUT = new Set((process.env.PAGEROOM_TEST_WITHOUT ?? '').split(',').filter(Boolean))
export const has = kind => !WITHOUT.has(kind)

const deep = (levels, value) => {
  for (let level = 0; level < levels; level++) value = level % 2 ? { in: value } : [value]
  return value
}

const PLAIN = [
  0, 1, -7, 2.5, 123456789, 9007199254740991, true, false, null, '', 'text', 'zwölf 日本 😀', [1, [2, []]], { a: { c: [null] } },
  ...(has('key-order') ? [{ b: 1, a: [2], '': 3 }] : [])
]

/** Plain values that JSON cannot say, or that are easily changed on the way. */
const HARD = [
  ...(has('undefined') ? [undefined, [undefined], { left: undefined }] : []),
  ...(has('bigint') ? [5n, 9223372036854775807n, -9223372036854775808n, { big: [0n] }] : []),
  ...(has('minus-zero') ? [-0, [-0]] : []),
  ...(has('numbers') ? [1e19, -1e19, 5e-324, 0.1, NaN, Infinity, -Infinity, 1.5e300, 2147483648, -2147483648] : []),
  ...(has('bytes') ? [{ bytes: Uint8Array.of(0, 255, 7) }, [new Uint8Array(0)]] : []),
  ...(has('halves') ? ['half \ud83d', { '\ude00': 'half \ude00 of one' }] : []),
  ...(has('deep') ? [deep(65, 'deep')] : [])
]

/** Values in embeds and format attributes, which travel as JSON. */
const JSON_VALUES = [
  true, 'red', '', 7, { href: 'https://example.com/' }, { list: [1, null] },
  ...(has('key-order') ? [{ href: 'https://example.com/', at: 1 }] : []),
  ...(has('doubles') ? [0.10941809951327741, { height: 0.3333333333333333, width: 1.7976931348623157e308 }, 5e-324] : []),
  ...(has('numbers') ? [1e19, { n: -1e19 }] : []),
  ...(has('halves') ? ['half \ud83d', { half: '\ude00' }] : []),
  ...(has('deep') ? [deep(127, 1)] : [])
]

const WORDS = ['a', 'word ', 'zwölf', '日本', '😀', '👩‍👩‍👧', 'line\n', ' ', 'x'.repeat(40), ...(has('halves') ? ['q\ude00q'] : [])]
const FORMATS = ['bold', 'color', 'link']

/** A number with all bits of its fraction in use. */
const anyDouble = random => (random.next() + random.next() / 2 ** 32) / 2 ** 32

const plainValue = random => random.chance(10) ? anyDouble(random) : random.pick(PLAIN)
const anyValue = random => HARD.length > 0 && random.chance(50) ? random.pick(HARD) : plainValue(random)

/** The value, in a list where the functions of this Yjs refuse it bare. What is in a list is written all the same. */
const takenBy = (Y, value) => value === undefined || typeof value === 'bigint' || (value === null && Y === Y135) ? [value] : value
const jsonValue = random => has('doubles') && random.chance(25) ? anyDouble(random) : random.pick(JSON_VALUES)

/** One who writes: a document, with every update that came of it or reached it, in order. */
class Author {
  constructor (random, gc) {
    this.Y = random.pick(LIBRARIES)
    this.random = random
    this.doc = new this.Y.Doc({ gc: random.chance(60) && gc, guid: 'page' })
    this.doc.clientID = random.chance(10) ? random.next() : 1 + random.below(1 << 20)
    /** @type {Uint8Array[]} */
    this.updates = []
    this.doc.on('update', update => this.updates.push(update))
    this.roots = {
      text: this.doc.getText('text'),
      halves: this.doc.getText('halves'),
      map: this.doc.getMap('map'),
      array: this.doc.getArray('array'),
      xml: this.doc.getXmlFragment('xml'),
      values: this.doc.getMap('values'),
      list: this.doc.getArray('list')
    }
    this.undo = random.chance(40)
      ? new this.Y.UndoManager(['text', 'map', 'array', 'xml'].map(name => this.roots[name]), { captureTimeout: 0 })
      : null
  }

  /** What this author lacks of another's. */
  meet (other) {
    const missing = other.Y.encodeStateAsUpdate(other.doc, this.Y.encodeStateVector(this.doc))
    this.Y.applyUpdate(this.doc, missing, 'other')
  }

  /** The root's type, or one that lies somewhere inside it. */
  inside (root) {
    const { Y, random } = this
    let type = root
    while (random.chance(60)) {
      const inner = childrenOf(Y, type)
      if (inner.length === 0) return type
      type = random.pick(inner)
    }
    return type
  }

  /** A type nobody has yet, filled a little. */
  fresh (hard) {
    const { Y, random } = this
    const value = random => takenBy(Y, hard ? anyValue(random) : plainValue(random))
    switch (random.below(hard ? 5 : 3)) {
      case 0: return new Y.Map([['first', value(random)], ['second', value(random)]])
      case 1: return Y.Array.from([value(random), value(random)])
      case 2: return new Y.Text(random.pick(['', 'inner text', '😀']))
      case 3: return this.fresh(false)
      default: return has('subdocuments') && this.mayNest ? this.subdocument() : new Y.Map()
    }
  }

  subdocument () {
    const { Y, random } = this
    return new Y.Doc({
      guid: `sub-${random.below(1000)}`,
      ...(random.chance(50) ? { gc: false } : {}),
      ...(random.chance(50) ? { autoLoad: true } : {}),
      ...(has('subdocument-options') && random.chance(60) ? { meta: random.pick([{ title: 'Sub', at: 2.5 }, 'meta', 7]) } : {})
    })
  }

  editText (text) {
    const { random } = this
    const index = random.below(text.length + 1)
    const die = random.below(100)
    if (die < 45) text.insert(index, random.pick(WORDS), random.chance(20) ? { [random.pick(FORMATS)]: jsonValue(random) } : undefined)
    else if (die < 65) text.delete(index, Math.min(text.length - index, random.below(6)))
    else if (die < 75) text.insertEmbed(index, { image: jsonValue(random) }, random.chance(30) ? { bold: true } : undefined)
    // A range that begins or ends inside an emoji would change it in this replica and in no other.
    else if (![...text.toString()].some(character => character.length > 1)) {
      const length = Math.min(text.length - index, random.below(8))
      text.format(index, length, { [random.pick(FORMATS)]: random.chance(30) ? null : jsonValue(random) })
    }
  }

  editMap (map, hard) {
    const { Y, random } = this
    const key = random.pick(['a', 'b', 'c', 'longer key', '日本'])
    const die = random.below(100)
    if (die < 60) {
      const value = hard ? anyValue(random) : plainValue(random)
      map.set(key, Y === Y135 ? takenBy(Y, value) : value)
    } else if (die < 75) map.set(key, this.fresh(hard))
    else if (die < 80 && hard && has('bytes')) map.set(key, Uint8Array.of(1, 2, random.below(256)))
    else map.delete(key)
  }

  editArray (array, hard) {
    const { Y, random } = this
    const index = random.below(array.length + 1)
    const die = random.below(100)
    if (die < 50) array.insert(index, Array.from({ length: 1 + random.below(3) }, () => takenBy(Y, hard ? anyValue(random) : plainValue(random))))
    else if (die < 65) array.insert(index, [this.fresh(hard)])
    else if (die < 70 && hard && has('bytes')) array.insert(index, [Uint8Array.of(9, random.below(256))])
    else if (die < 75 && hard && has('json')) this.appendJson(array)
    else if (index < array.length) array.delete(index, Math.min(array.length - index, 1 + random.below(2)))
  }

  /** Content as the oldest clients wrote it: values as JSON. No function of today's Yjs writes this any more. */
  appendJson (array) {
    const { Y, random } = this
    let last = array._start
    while (last?.right) last = last.right
    this.doc.transact(transaction => {
      const id = Y.createID(this.doc.clientID, Y.getState(this.doc.store, this.doc.clientID))
      const content = new Y.ContentJSON([jsonValue(random), jsonValue(random)])
      new Y.Item(id, last, last && last.lastId, null, null, array, null, content).integrate(transaction, 0)
    })
  }

  editXml (parent) {
    const { Y, random } = this
    const index = random.below(parent.length + 1)
    const die = random.below(100)
    if (die < 25) parent.insert(index, [new Y.XmlElement(random.pick(['p', 'h1', 'li', 'Note']))])
    else if (die < 45) parent.insert(index, [new Y.XmlText(random.pick(WORDS))])
    else if (die < 52 && has('hooks')) {
      const hook = new Y.XmlHook('gadget')
      hook.set('value', plainValue(random))
      parent.insert(index, [hook])
    } else if (die < 80 && parent instanceof Y.XmlElement) {
      const name = random.pick(['id', 'level', 'class'])
      if (random.chance(25)) parent.removeAttribute(name)
      else parent.setAttribute(name, random.pick(['v1', 'v2', 'ü', `v${random.below(100)}`]))
    } else if (index < parent.length) parent.delete(index, 1)
  }

  /** One edit of any kind. */
  edit () {
    const { Y, random } = this
    const die = random.below(100)
    if (this.undo && die < 12) {
      if (random.chance(60)) this.undo.undo()
      else this.undo.redo()
      return
    }
    if (die < 16 && has('halves')) {
      // Only ever added to, and with letters on both sides: Yjs damages the neighbour of a lone half where it splits.
      this.roots.halves.insert(this.roots.halves.length, random.pick(['q\ud83dq', 'q\ude00q']))
      return
    }
    const name = random.pick(['text', 'text', 'map', 'array', 'xml', 'xml', 'values', 'list'])
    const type = this.inside(this.roots[name])
    const hard = name === 'values' || name === 'list'
    if (type instanceof Y.XmlFragment) this.editXml(type)
    else if (type instanceof Y.Text) this.editText(type)
    else if (type instanceof Y.Array) this.editArray(type, hard)
    else this.editMap(type, hard)
  }

  /** No root stays empty: an empty one has no type on the wire, so readers could not agree on how to write it. */
  finish () {
    this.doc.transact(() => {
      const { Y, roots } = this
      roots.text.insert(0, 'end')
      roots.halves.insert(roots.halves.length, 'end')
      roots.map.set('end', true)
      roots.array.insert(0, ['end'])
      roots.xml.insert(0, [new Y.XmlElement('end')])
      roots.values.set('end', true)
      roots.list.insert(0, ['end'])
      if (has('deep')) {
        let map = roots.map
        for (let level = 0; level < 70; level++) map = map.set('deeper', new Y.Map())
      }
    })
  }
}

function childrenOf (Y, type) {
  const own = type instanceof Y.Array || type instanceof Y.XmlFragment
    ? type.toArray()
    : type instanceof Y.Map ? [...type.values()] : []
  return own.filter(value => value instanceof Y.AbstractType)
}

/**
 * The documents of one seed. Where `gc` is false, no author collects garbage.
 *
 * @returns {{ authors: Author[], early: { stateVector: Uint8Array, state: Uint8Array }[] }} the authors, who end with different
 *   states, and what some of them had earlier
 */
export function generate (seed, { gc = true } = {}) {
  const random = new Random(seed)
  const authors = Array.from({ length: 1 + random.below(4) }, () => new Author(random, gc))
  // Yjs 13.5.0 throws where it has to write a deleted subdocument.
  const mayNest = authors.every(author => author.Y !== Y135)
  for (const author of authors) author.mayNest = mayNest
  const early = []
  const steps = 15 + random.below(45)
  const meetings = random.pick([0, 5, 20])
  for (let step = 0; step < steps; step++) {
    const author = random.pick(authors)
    if (random.chance(meetings)) author.meet(random.pick(authors))
    else if (random.chance(20)) author.doc.transact(() => { for (let i = 0; i < 4; i++) author.edit() })
    else author.edit()
    if (random.chance(6)) {
      early.push({ stateVector: author.Y.encodeStateVector(author.doc), state: author.Y.encodeStateAsUpdate(author.doc) })
    }
  }
  authors[0].finish()
  return { authors, early }
}
