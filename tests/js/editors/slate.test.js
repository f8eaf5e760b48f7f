// Slate with @slate-yjs/core.

import './support/dom.js'

import { YjsEditor, slateNodesToInsertDelta, withYHistory, withYjs } from '@slate-yjs/core'
import { Editor, Element, Node, Text, Transforms, createEditor } from 'slate'
import { XmlText } from 'yjs'

import { textOfNested } from './support/nested.js'
import { testEditor } from './support/suite.js'
import { WORDS, place, stretch } from './support/typist.js'

const FIELD = 'slate'

/** The places of all pieces of text, and of the blocks that hold them. */
const textsOf = editor => Array.from(Node.texts(editor), ([node, path]) => ({ text: node.text, path }))
const blocksOf = editor => Array.from(Editor.nodes(editor, {
  at: [], match: node => Element.isElement(node) && !editor.isInline(node) && editor.hasInlines(node)
}))

function somewhere (editor, random) {
  const { text, path } = random.pick(textsOf(editor))
  return { path, offset: place(text, random) }
}

function somePart (editor, random) {
  const { text, path } = random.pick(textsOf(editor))
  const [from, to] = stretch(text, random)
  return { anchor: { path, offset: from }, focus: { path, offset: to } }
}

const format = (editor, random) => {
  const at = somePart(editor, random)
  if (at.anchor.offset === at.focus.offset) return
  const options = { at, match: Text.isText, split: true }
  const mark = random.pick(['bold', 'italic'])
  if (random.chance(70)) Transforms.setNodes(editor, { [mark]: true }, options)
  else Transforms.unsetNodes(editor, mark, options)
}

const EDITS = [
  (editor, random) => Transforms.insertText(editor, random.pick(WORDS), { at: somewhere(editor, random) }),
  (editor, random) => Transforms.insertText(editor, random.pick(WORDS), { at: somewhere(editor, random) }),
  (editor, random) => Transforms.delete(editor, { at: somePart(editor, random) }),
  format,
  (editor, random) => Transforms.splitNodes(editor, { at: somewhere(editor, random) }),
  (editor, random) => {
    // From somewhere in a block to somewhere later, which joins what is left of both.
    const [one, other] = [somewhere(editor, random), somewhere(editor, random)]
    if (Math.abs(one.path[0] - other.path[0]) <= 1) Transforms.delete(editor, { at: { anchor: one, focus: other } })
  },
  (editor, random) => Transforms.setNodes(editor, { type: random.pick(['heading', 'paragraph']) }, { at: random.pick(blocksOf(editor))[1] }),
  (editor, random) => {
    const at = [random.below(editor.children.length)]
    if (editor.children[at[0]].type !== 'list') Transforms.wrapNodes(editor, { type: 'list', children: [] }, { at })
    else Transforms.unwrapNodes(editor, { at })
  },
  (editor, random) => {
    const [from, to] = [random.below(editor.children.length), random.below(editor.children.length)]
    Transforms.moveNodes(editor, { at: [from], to: [to] })
  },
  (editor, random) => {
    const at = somewhere(editor, random)
    if (Editor.above(editor, { at, match: node => node.type === 'link' })) return
    const link = { type: 'link', url: `https://example.com/${random.below(9)}`, children: [{ text: random.pick(WORDS) }] }
    Transforms.insertNodes(editor, link, { at })
  }
]

/** The content without the formats of what has no text: shared documents have no place for them. */
function withoutBareFormats (node) {
  if (Text.isText(node)) return node.text === '' ? { text: '' } : node
  return { ...node, children: node.children.map(withoutBareFormats) }
}

/** A block is a line; where nothing but links is in one, it cannot be told from a block of blocks. */
function linesOf ({ children }) {
  const links = children.filter(Element.isElement)
  const isBare = links.length > 0 && children.every(child => Element.isElement(child) || child.text === '')
  return (isBare ? links : [{ children }]).map(Node.string)
}

function open (doc, _awareness, isFirst) {
  const shared = doc.get(FIELD, XmlText)
  if (isFirst) shared.applyDelta(slateNodesToInsertDelta([{ type: 'paragraph', children: [{ text: '' }] }]))
  const base = createEditor()
  base.isInline = node => node.type === 'link'
  const editor = withYHistory(withYjs(base, shared))
  YjsEditor.connect(editor)
  return {
    edits: EDITS.map(edit => random => edit(editor, random)),
    type: text => Transforms.insertText(editor, text, { at: Editor.start(editor, []) }),
    undo: () => editor.undo(),
    redo: () => editor.redo(),
    undoManager: editor.undoManager,
    content: () => editor.children.map(withoutBareFormats),
    text: () => blocksOf(editor).flatMap(([node]) => linesOf(node)).join('\n'),
    close: () => YjsEditor.disconnect(editor)
  }
}

/** The nodes that a delta stands for: an element is a text in a text, what it is called is in its attributes. */
function nodesOf ({ ops }) {
  const nodes = ops.map(({ insert, attributes }) =>
    typeof insert === 'string' ? { text: insert, ...attributes } : { ...insert.attributes, children: nodesOf(insert) })
  // There is always a text at which one can type, also where none is stored.
  return nodes.length > 0 ? nodes : [{ text: '' }]
}

/** Without the empty texts that an editor has beside links and in what is empty. */
function outline (nodes) {
  const some = nodes.filter(node => node.text !== '').map(node => node.children ? { ...node, children: outline(node.children) } : node)
  return some.length > 0 ? some : [{ text: '' }]
}

testEditor({
  name: 'Slate',
  field: FIELD,
  open,
  json: doc => textOfNested(doc.get(FIELD, XmlText)),
  tree: delta => outline(nodesOf(delta)),
  outline
})
