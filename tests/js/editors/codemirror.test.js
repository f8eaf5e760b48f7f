// CodeMirror 6 with y-codemirror.next.

import './support/dom.js'

import { EditorState } from '@codemirror/state'
import { EditorView } from '@codemirror/view'
import { yCollab, yUndoManagerKeymap } from 'y-codemirror.next'
import { UndoManager } from 'yjs'

import { testEditor } from './support/suite.js'
import { WORDS, place, stretch } from './support/typist.js'

const FIELD = 'text'
const [undo, redo] = yUndoManagerKeymap

function open (doc, awareness) {
  const ytext = doc.getText(FIELD)
  const undoManager = new UndoManager(ytext)
  const view = new EditorView({
    state: EditorState.create({
      doc: ytext.toString(),
      // Several carets, each of which types.
      extensions: [EditorState.allowMultipleSelections.of(true), yCollab(ytext, awareness, { undoManager })]
    }),
    parent: document.body
  })
  const text = () => view.state.doc.toString()
  const change = changes => view.dispatch({ changes, userEvent: 'input' })
  const replace = random => {
    const [from, to] = stretch(text(), random)
    change({ from, to, insert: random.pick(WORDS) })
  }
  return {
    edits: [
      replace,
      random => change({ from: place(text(), random), insert: random.pick(WORDS) }),
      random => change({ from: place(text(), random), insert: '\n' }),
      random => {
        const [from, to] = stretch(text(), random)
        change({ from, to })
      },
      random => {
        const at = [place(text(), random), place(text(), random)]
        change(at.map(from => ({ from, insert: random.pick(WORDS) })))
      }
    ],
    type: insert => change({ from: 0, insert }),
    undo: () => undo.run(view),
    redo: () => redo.run(view),
    undoManager,
    content: text,
    text,
    close: () => view.destroy()
  }
}

testEditor({ name: 'CodeMirror', field: FIELD, open, json: doc => doc.getText(FIELD).toString() })
