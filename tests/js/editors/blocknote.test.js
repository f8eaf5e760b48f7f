// BlockNote with its own collaboration, on y-prosemirror.

import './support/dom.js'

import { BlockNoteEditor } from '@blocknote/core'
import { withCollaboration } from '@blocknote/core/yjs'
import { yUndoPluginKey } from 'y-prosemirror'

import { plainText, textEdits, typeAtStart, whereThereIsText } from './support/prosemirror.js'
import { testEditor } from './support/suite.js'
import { WORDS } from './support/typist.js'

const FIELD = 'document-store'

/** A block without its id: one that nobody has written yet is each editor's own. */
const withoutId = ({ id, children, ...rest }) => ({ ...rest, children: children.map(withoutId) })

function open (doc, awareness, isFirst) {
  const element = document.body.appendChild(document.createElement('div'))
  const fragment = doc.getXmlFragment(FIELD)
  const user = { name: 'somebody', color: '#7e22ce' }
  const editor = BlockNoteEditor.create(withCollaboration({ collaboration: { fragment, user, provider: { awareness } } }))
  editor.mount(element)
  const view = editor.prosemirrorView
  const { undoManager } = yUndoPluginKey.getState(view.state)
  if (isFirst) {
    // A document holds one group of blocks, so somebody has to be the first who writes it.
    editor.insertBlocks([{ type: 'paragraph' }], editor.document[0], 'after')
    undoManager.clear()
  }
  const some = random => random.pick(editor.document)
  const onSome = command => random => {
    editor.setTextCursorPosition(some(random), 'start')
    command()
  }
  return {
    edits: whereThereIsText(view, [
      ...textEdits(view, ['bold', 'italic']),
      random => editor.insertBlocks([{ type: 'paragraph', content: random.pick(WORDS) }], some(random), random.pick(['before', 'after'])),
      random => editor.insertBlocks([{ type: 'bulletListItem', content: random.pick(WORDS) }], some(random), 'after'),
      random => editor.updateBlock(some(random), { type: 'heading', props: { level: 1 + random.below(3) } }),
      random => editor.updateBlock(some(random), { type: 'paragraph', props: { textColor: random.pick(['red', 'default']) } }),
      random => {
        if (editor.document.length > 1) editor.removeBlocks([some(random)])
      },
      onSome(() => editor.nestBlock()),
      onSome(() => editor.unnestBlock()),
      onSome(() => editor.moveBlocksDown())
    ]),
    type: text => typeAtStart(view, text),
    undo: () => editor.undo(),
    redo: () => editor.redo(),
    undoManager,
    content: () => editor.document.map(withoutId),
    text: () => plainText(view.state.doc),
    close: () => {
      editor._tiptapEditor.destroy()
      element.remove()
    }
  }
}

testEditor({
  name: 'BlockNote',
  field: FIELD,
  open,
  json: doc => doc.getXmlFragment(FIELD).toString()
})
