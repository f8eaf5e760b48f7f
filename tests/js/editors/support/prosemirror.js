// What editors built on ProseMirror have in common: edits anywhere in their document, and reading it.

import { Fragment, Slice } from 'prosemirror-model'
import { NodeSelection, TextSelection } from 'prosemirror-state'

import { WORDS, place, stretch } from './typist.js'

/** One character for each place in a block of text: a stand-in where something else than text is. */
const textOf = node => node.textBetween(0, node.content.size, '', '\ufffc')

/** The blocks of text of a document, each with the position of its first character. */
export function textBlocks (doc) {
  const blocks = []
  doc.descendants((node, pos) => {
    if (node.isTextblock) blocks.push({ node, start: pos + 1 })
    return !node.isTextblock
  })
  return blocks
}

/** A random place in the text, and a stretch of it within one block. */
function somewhere (doc, random) {
  const { node, start } = random.pick(textBlocks(doc))
  return start + place(textOf(node), random)
}

function somePart (doc, random) {
  const { node, start } = random.pick(textBlocks(doc))
  return stretch(textOf(node), random).map(offset => start + offset)
}

/** Presses a key, as the editor's own key bindings see it. */
export function press (view, key, modifiers = {}) {
  const event = new KeyboardEvent('keydown', { key, bubbles: true, cancelable: true, ...modifiers })
  return view.someProp('handleKeyDown', handle => handle(view, event))
}

/** Puts the caret somewhere, or selects. */
export function select (view, from, to = from) {
  view.dispatch(view.state.tr.setSelection(TextSelection.create(view.state.doc, from, to)))
}

/** The edits to text that every schema allows; `marks` are the names of the formats to use. */
export function textEdits (view, marks) {
  const { schema } = view.state
  return [
    random => view.dispatch(view.state.tr.insertText(random.pick(WORDS), somewhere(view.state.doc, random))),
    random => {
      const [from, to] = somePart(view.state.doc, random)
      view.dispatch(view.state.tr.insertText(random.pick(WORDS), from, to))
    },
    random => {
      const [from, to] = somePart(view.state.doc, random)
      if (to > from) view.dispatch(view.state.tr.delete(from, to))
    },
    random => {
      const mark = schema.marks[random.pick(marks)]
      if (random.chance(70)) addMark(view, mark.create(), random)
      else view.dispatch(view.state.tr.removeMark(...somePart(view.state.doc, random), mark))
    },
    random => {
      select(view, somewhere(view.state.doc, random))
      press(view, 'Enter')
    }
  ]
}

/** Formats a stretch of text. Other things than text have no formats in shared documents. */
export function addMark (view, mark, random) {
  const { doc } = view.state
  const [from, to] = somePart(doc, random)
  let isText = true
  doc.nodesBetween(from, to, node => { if (node.isInline && !node.isText) isText = false })
  if (isText) view.dispatch(view.state.tr.addMark(from, to, mark))
}

/** The same edits, which do nothing while there is no text to edit. */
export const whereThereIsText = (view, edits) => edits.map(edit => random => {
  if (textBlocks(view.state.doc).length > 0) edit(random)
})

/** Types at the start, in a paragraph of its own where there is no text. */
export function typeAtStart (view, text) {
  const { state } = view
  const [first] = textBlocks(state.doc)
  const { paragraph } = state.schema.nodes
  view.dispatch(first ? state.tr.insertText(text, first.start) : state.tr.insert(0, paragraph.create(null, state.schema.text(text))))
}

/** Deletes from somewhere in a block to somewhere in the next one, which joins them. */
export function joinBlocks (view, random) {
  const blocks = textBlocks(view.state.doc)
  if (blocks.length < 2) return
  const first = random.below(blocks.length - 1)
  const [from, to] = [blocks[first], blocks[first + 1]].map(({ node, start }) => start + place(textOf(node), random))
  select(view, from, to)
  view.dispatch(view.state.tr.deleteSelection())
}

/** Runs a command with the caret somewhere. */
export function runSomewhere (view, command, random) {
  select(view, somewhere(view.state.doc, random))
  command(view.state, view.dispatch)
}

/** Inserts a node into a line. */
export function insertInline (view, node, random) {
  const at = somewhere(view.state.doc, random)
  if (view.state.doc.resolve(at).parent.type.validContent(Fragment.from(node))) view.dispatch(view.state.tr.insert(at, node))
}

/** Inserts a block between two others at the top. */
export function insertBlock (view, node, random) {
  const { doc } = view.state
  const before = random.below(doc.childCount + 1)
  let at = 0
  for (let child = 0; child < before; child++) at += doc.child(child).nodeSize
  view.dispatch(view.state.tr.insert(at, node))
}

/** Drags a block at the top to another place. */
export function moveBlock (view, random) {
  const { doc } = view.state
  if (doc.childCount < 2) return
  let at = 0
  const moved = random.below(doc.childCount)
  for (let child = 0; child < moved; child++) at += doc.child(child).nodeSize
  const tr = view.state.tr.setSelection(NodeSelection.create(doc, at))
  const slice = new Slice(Fragment.from(doc.child(moved)), 0, 0)
  tr.deleteSelection().replace(random.chance(50) ? 0 : tr.doc.content.size, undefined, slice)
  view.dispatch(tr)
}

/** The plain text of a document: a line for each block, and after each break within one; a break at the end adds none. */
export function plainText (doc) {
  const lines = []
  doc.descendants(node => {
    if (!node.isTextblock) {
      if (node.isLeaf) lines.push('')
      return true
    }
    const pieces = ['']
    node.forEach(child => child.isText ? pieces.push(pieces.pop() + child.text) : pieces.push(''))
    if (pieces.length > 1 && pieces.at(-1) === '') pieces.pop()
    lines.push(...pieces)
    return false
  })
  return lines.join('\n')
}
