// Tiptap with its own collaboration extension.

import './support/dom.js'

import { Editor } from '@tiptap/core'
import { Collaboration } from '@tiptap/extension-collaboration'
import { StarterKit } from '@tiptap/starter-kit'
import { yUndoPluginKey } from '@tiptap/y-tiptap'

import {
  addMark, insertBlock, insertInline, joinBlocks, moveBlock, plainText, select, textBlocks, textEdits, typeAtStart, whereThereIsText
} from './support/prosemirror.js'
import { testEditor } from './support/suite.js'

const FIELD = 'default'

function open (doc) {
  const element = document.body.appendChild(document.createElement('div'))
  const editor = new Editor({
    element,
    extensions: [StarterKit.configure({ undoRedo: false }), Collaboration.configure({ document: doc, field: FIELD })]
  })
  const { view, schema } = editor
  const inSomeBlock = (random, command) => {
    select(view, random.pick(textBlocks(view.state.doc)).start)
    command(editor.commands)
  }
  return {
    edits: whereThereIsText(view, [
      ...textEdits(view, ['bold', 'italic', 'code']),
      random => joinBlocks(view, random),
      random => moveBlock(view, random),
      random => inSomeBlock(random, commands => commands.toggleHeading({ level: 1 + random.below(3) })),
      random => inSomeBlock(random, commands => commands.toggleBulletList()),
      random => inSomeBlock(random, commands => commands.toggleBlockquote()),
      random => inSomeBlock(random, commands => commands.toggleCodeBlock()),
      random => inSomeBlock(random, commands => commands.sinkListItem('listItem')),
      random => insertInline(view, schema.nodes.hardBreak.create(), random),
      random => insertBlock(view, schema.nodes.horizontalRule.create(), random),
      random => addMark(view, schema.marks.link.create({ href: `https://example.com/${random.below(9)}?a&b="c"` }), random)
    ]),
    type: text => typeAtStart(view, text),
    undo: () => editor.commands.undo(),
    redo: () => editor.commands.redo(),
    undoManager: yUndoPluginKey.getState(view.state).undoManager,
    content: () => editor.getJSON(),
    text: () => plainText(view.state.doc),
    close: () => {
      editor.destroy()
      element.remove()
    }
  }
}

testEditor({
  name: 'Tiptap',
  field: FIELD,
  open,
  json: doc => doc.getXmlFragment(FIELD).toString(),
  // The binding looks for the caret of back then, and throws when the document has become too short for it.
  undoesAnywhere: false
})
