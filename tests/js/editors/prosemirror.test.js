// ProseMirror with y-prosemirror.

import './support/dom.js'

import { baseKeymap, chainCommands, setBlockType, splitBlock } from 'prosemirror-commands'
import { keymap } from 'prosemirror-keymap'
import { Schema } from 'prosemirror-model'
import { nodes, marks } from 'prosemirror-schema-basic'
import { addListNodes, liftListItem, sinkListItem, splitListItem, wrapInList } from 'prosemirror-schema-list'
import { EditorState } from 'prosemirror-state'
import { EditorView } from 'prosemirror-view'
import { initProseMirrorDoc, redo, undo, yCursorPlugin, ySyncPlugin, yUndoPlugin, yUndoPluginKey } from 'y-prosemirror'

import {
  insertBlock, insertInline, joinBlocks, moveBlock, plainText, runSomewhere, textEdits, typeAtStart, whereThereIsText
} from './support/prosemirror.js'
import { testEditor } from './support/suite.js'

const FIELD = 'prosemirror'

const basic = new Schema({ nodes, marks })
const schema = new Schema({ nodes: addListNodes(basic.spec.nodes, 'paragraph block*', 'block'), marks })

function open (ydoc, awareness) {
  const type = ydoc.getXmlFragment(FIELD)
  const { doc, mapping } = initProseMirrorDoc(type, schema)
  const element = document.body.appendChild(document.createElement('div'))
  const enter = chainCommands(splitListItem(schema.nodes.list_item), splitBlock)
  const view = new EditorView(element, {
    state: EditorState.create({
      doc,
      plugins: [
        ySyncPlugin(type, { mapping }), yCursorPlugin(awareness), yUndoPlugin(), keymap({ Enter: enter }), keymap(baseKeymap)
      ]
    })
  })
  const run = command => random => runSomewhere(view, command, random)
  return {
    edits: whereThereIsText(view, [
      ...textEdits(view, ['strong', 'em']),
      random => joinBlocks(view, random),
      random => moveBlock(view, random),
      random => run(setBlockType(schema.nodes.heading, { level: 1 + random.below(6) }))(random),
      run(setBlockType(schema.nodes.paragraph)),
      run(wrapInList(schema.nodes.bullet_list)),
      run(sinkListItem(schema.nodes.list_item)),
      run(liftListItem(schema.nodes.list_item)),
      random => insertInline(view, schema.nodes.hard_break.create(), random),
      random => insertBlock(view, schema.nodes.horizontal_rule.create(), random)
    ]),
    type: text => typeAtStart(view, text),
    undo: () => undo(view.state),
    redo: () => redo(view.state),
    undoManager: yUndoPluginKey.getState(view.state).undoManager,
    content: () => view.state.doc.toJSON(),
    text: () => plainText(view.state.doc),
    close: () => {
      view.destroy()
      element.remove()
    }
  }
}

testEditor({ name: 'ProseMirror', field: FIELD, open, json: doc => doc.getXmlFragment(FIELD).toString() })
