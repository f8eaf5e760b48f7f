// Somebody who types: an editor of some kind on a page of the server. Runs in Node and in browsers.

import { Awareness } from 'y-protocols/awareness'
import * as Y from 'yjs'

import { Random } from '../../support/random.js'

/** How many of 100 acts take the last one back, and how many bring one back. */
const UNDOS = 12
const REDOS = 8

/** What people type: of every width in UTF-16 and UTF-8, emoji that share half of a pair, and some of several characters. */
export const WORDS = ['a', 'word ', 'zwölf', '日本', '😀', '😁', '👩‍👩‍👧', '𝒳y', 'e\u0301', ' ', '<b>&', 'x'.repeat(40)]

/**
 * The same for editors that compare texts to find out what has changed, character by character, and so cut an emoji in two that
 * has half of its neighbour's code: no two of these have.
 */
export const DISTINCT_WORDS = ['a', 'word ', 'zwölf', '日本', '😀', '🧑‍🧑', '𝒳y', 'e\u0301', ' ', '<b>&', 'x'.repeat(40)]

/** The nearest place in a text at or before `index` that is not inside a surrogate pair: editors put no caret there. */
export function caret (text, index) {
  const unit = text.charCodeAt(index)
  return unit >= 0xdc00 && unit <= 0xdfff ? index - 1 : index
}

/** A random place in a text. */
export const place = (text, random) => caret(text, random.below(text.length + 1))

/** A random stretch of a text: from, to; it may be empty and is not long. */
export function stretch (text, random) {
  const from = place(text, random)
  return [from, caret(text, Math.min(text.length, from + random.below(12)))]
}

/**
 * An editor that is open on a document. Every kind of editor is a module that `open`s one.
 *
 * @typedef {object} OpenEditor
 * @property {((random: Random) => void)[]} edits the edits that a person can make, each at a random place
 * @property {(text: string) => void} type types at the start of the document
 * @property {() => void} undo with the editor's own undo
 * @property {() => void} redo
 * @property {import('yjs').UndoManager} undoManager what that is built on
 * @property {() => any} content everything that is in the editor, by the editor's own model
 * @property {() => string} text the plain text of that, as the server should give it
 * @property {() => void} close
 */

/**
 * @typedef {object} Kind
 * @property {string} name
 * @property {string} field the root type that the editor writes to
 * @property {(doc: Y.Doc, awareness: Awareness, isFirst: boolean) => OpenEditor} open
 * @property {(doc: Y.Doc) => any} json what the server should give for that root type as JSON
 * @property {(delta: { ops: any[] }) => any} [tree] the content that the server's delta stands for, where that is a tree
 * @property {(content: any) => any} [outline] what of the content is in that tree, if not all
 * @property {boolean} [undoesAnywhere] false: the editor itself cannot undo whatever others have done in between
 */

export class Typist {
  /** @param {Kind} kind */
  constructor (kind, provider, { url, page, clientId }) {
    this.kind = kind
    this.doc = new Y.Doc()
    // Conflicts are decided by it, so that a seed decides everything.
    this.doc.clientID = clientId
    this.provider = provider.connect(url, page, this.doc)
    this.provider.awareness.setLocalState({ user: { name: `typist ${clientId}`, color: '#7e22ce' } })
  }

  /** Whether the server has answered. */
  async isSynced () {
    return this.provider.synced
  }

  async opens (isFirst) {
    this.editor = this.kind.open(this.doc, this.provider.awareness, isFirst)
  }

  /** Makes random edits without hearing anybody in between. */
  async edits (seed, count) {
    const random = new Random(seed)
    const { undoesAnywhere: undoes = true } = this.kind
    for (let i = 0; i < count; i++) {
      const die = random.below(100)
      // Otherwise the time between two edits would decide what one undo takes back.
      this.editor.undoManager.stopCapturing()
      if (undoes && die < UNDOS) this.editor.undo()
      else if (undoes && die < UNDOS + REDOS) this.editor.redo()
      else random.pick(this.editor.edits)(random)
      await flushed()
    }
  }

  async types (text) {
    this.editor.undoManager.stopCapturing()
    this.editor.type(text)
    await flushed()
  }

  async undoes () {
    this.editor.undo()
    await flushed()
  }

  async redoes () {
    this.editor.redo()
    await flushed()
  }

  /** All that the document has in it, deletions too, in a form that can be compared. */
  async holds () {
    return headsOf(this.doc)
  }

  /** What this editor shows, and what the server should give for it. */
  async sees () {
    return { content: this.editor.content(), text: this.editor.text(), json: this.kind.json(this.doc) }
  }

  /** What an editor of this kind shows that is opened on a document with nothing but this update. */
  async reads (update) {
    const doc = new Y.Doc()
    Y.applyUpdate(doc, Uint8Array.from(update))
    const awareness = new Awareness(doc)
    const editor = this.kind.open(doc, awareness, false)
    await flushed()
    const content = editor.content()
    awareness.destroy()
    await drawn()
    editor.close()
    return content
  }

  async leaves () {
    this.provider.destroy()
    await drawn()
    this.editor?.close()
    this.doc.destroy()
  }
}

/** Everything that is known of a document's state, as text. */
export function headsOf (doc) {
  return Array.from(Y.encodeSnapshot(Y.snapshot(doc)), byte => byte.toString(16).padStart(2, '0')).join('')
}

/** Editors put off drawing carets to the next turn, and cannot do it once they are closed. */
const drawn = () => new Promise(resolve => setTimeout(resolve, 0))

/** Editors write what has changed at the end of the task at hand; nothing from the network comes in before that. */
async function flushed () {
  for (let turn = 0; turn < 10; turn++) await null
}
