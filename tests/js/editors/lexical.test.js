// Lexical with @lexical/yjs.

import './support/dom.js'

import { $createListItemNode, $createListNode, ListItemNode, ListNode, registerList } from '@lexical/list'
import { $createHeadingNode, HeadingNode, registerRichText } from '@lexical/rich-text'
import { createBinding, createUndoManager, syncLexicalUpdateToYjs, syncYjsChangesToLexical } from '@lexical/yjs'
import {
  $addUpdateTag, $createParagraphNode, $createRangeSelection, $createTextNode, $getRoot, $isElementNode, $setSelection, createEditor, mergeRegister
} from 'lexical'
import { UndoManager } from 'yjs'

import { textOfNested } from './support/nested.js'
import { testEditor } from './support/suite.js'
import { DISTINCT_WORDS, place, stretch } from './support/typist.js'

const FIELD = 'root'

/** The innermost blocks: what Enter splits. */
function $blocks (element = $getRoot()) {
  return element.getChildren().filter($isElementNode).flatMap(child => {
    const inner = $blocks(child)
    return inner.length > 0 ? inner : [child]
  })
}

/** Selects within a block, from and to an offset in its text. */
function $select (block, from, to = from) {
  const selection = $createRangeSelection()
  $setPoint(selection.anchor, block, from)
  $setPoint(selection.focus, block, to)
  $setSelection(selection)
  return selection
}

function $setPoint (point, block, offset) {
  for (const text of block.getAllTextNodes()) {
    if (offset <= text.getTextContentSize()) return point.set(text.getKey(), offset, 'text')
    offset -= text.getTextContentSize()
  }
  point.set(block.getKey(), 0, 'element')
}

function $somewhere (random) {
  const block = random.pick($blocks())
  return $select(block, place(block.getTextContent(), random))
}

function $somePart (random) {
  const block = random.pick($blocks())
  return $select(block, ...stretch(block.getTextContent(), random))
}

function $turnInto (block, made) {
  if (block.getParent() === $getRoot()) block.replace(made, true)
}

const $edits = [
  random => $somewhere(random).insertText(random.pick(DISTINCT_WORDS)),
  random => $somePart(random).insertText(random.pick(DISTINCT_WORDS)),
  random => $somePart(random).removeText(),
  random => {
    const selection = $somePart(random)
    if (!selection.isCollapsed()) selection.formatText(random.pick(['bold', 'italic', 'code']))
  },
  random => $somewhere(random).insertParagraph(),
  random => {
    const blocks = $blocks()
    const first = random.below(blocks.length)
    const next = blocks[first + 1]
    if (!next) return
    const selection = $select(blocks[first], place(blocks[first].getTextContent(), random))
    $setPoint(selection.focus, next, place(next.getTextContent(), random))
    selection.removeText()
  },
  random => $turnInto(random.pick($blocks()), random.chance(50) ? $createHeadingNode('h2') : $createParagraphNode()),
  random => {
    const items = [0, 1].map(() => $createListItemNode().append($createTextNode(random.pick(DISTINCT_WORDS))))
    random.pick($getRoot().getChildren()).insertAfter($createListNode('bullet').append(...items))
  },
  random => {
    if ($getRoot().getChildrenSize() > 1) random.pick($getRoot().getChildren()).remove()
  }
]

/** The content without what each editor works out for itself, and not always at once: list numbers, formats of text to come. */
function withoutDerived ({ value, textFormat, textStyle, children, ...rest }) {
  return children ? { ...rest, children: children.map(withoutDerived) } : rest
}

/** Shows what was there before the editor, which then has nothing to write. */
function $load (binding, shared) {
  $addUpdateTag('skip-collab')
  binding.root.applyChildrenYjsDelta(binding, shared.toDelta())
  binding.root.syncChildrenFromYjs(binding)
}

function open (doc, awareness, isFirst) {
  const element = document.body.appendChild(document.createElement('div'))
  element.contentEditable = 'true'
  const editor = createEditor({
    namespace: 'test', nodes: [HeadingNode, ListNode, ListItemNode], onError: error => { throw error }
  })
  const provider = { awareness }
  const binding = createBinding(editor, provider, FIELD, doc, new Map([[FIELD, doc]]))
  const shared = binding.root.getSharedType()
  const observe = (events, { origin }) => {
    if (origin !== binding) syncYjsChangesToLexical(binding, provider, events, origin instanceof UndoManager)
  }
  shared.observeDeep(observe)
  const stopRichText = mergeRegister(registerRichText(editor), registerList(editor))
  const stopListening = editor.registerUpdateListener(({ prevEditorState, editorState, dirtyElements, dirtyLeaves, normalizedNodes, tags }) => {
    if (tags.has('skip-collab')) return
    syncLexicalUpdateToYjs(binding, provider, prevEditorState, editorState, dirtyElements, dirtyLeaves, normalizedNodes, tags)
  })
  const update = edit => editor.update(edit, { discrete: true })
  editor.setRootElement(element)
  if (isFirst) update(() => { $getRoot().append($createParagraphNode()) })
  else update(() => $load(binding, shared))
  const undoManager = createUndoManager(binding, shared)
  const read = look => editor.getEditorState().read(look)
  return {
    edits: $edits.map($edit => random => update(() => { if ($blocks().length > 0) $edit(random) })),
    type: text => update(() => {
      if ($blocks().length === 0) $getRoot().append($createParagraphNode())
      $select($blocks()[0], 0).insertText(text)
    }),
    undo: () => undoManager.undo(),
    redo: () => undoManager.redo(),
    undoManager,
    content: () => withoutDerived(editor.getEditorState().toJSON().root),
    text: () => read(() => $blocks().map(block => block.getTextContent()).join('\n')),
    close: () => {
      shared.unobserveDeep(observe)
      stopListening()
      stopRichText()
      editor.setRootElement(null)
      element.remove()
    }
  }
}

/**
 * The nodes that a delta stands for: an element is a text in a text, and before each run of characters there is a map that says what it is.
 */
function nodesOf ({ ops }) {
  const nodes = []
  for (const { insert } of ops) {
    if (typeof insert === 'string') nodes.at(-1).text += insert
    else if (insert.ops) nodes.push({ type: insert.attributes.__type, children: nodesOf(insert) })
    else nodes.push({ type: insert.__type, format: insert.__format, text: '' })
  }
  return nodes
}

/** What of the editor's nodes is asked for above. */
function outline ({ children }) {
  return children.map(({ type, format, text, ...node }) => node.children ? { type, children: outline(node) } : { type, format, text })
}

testEditor({
  name: 'Lexical',
  field: FIELD,
  open,
  json: doc => textOfNested(doc.get(FIELD)),
  tree: nodesOf,
  outline,
  // The binding looks for the caret in a text that may be gone, and throws.
  undoesAnywhere: false
})
