// The plain-text editor: CodeMirror on the Y.Text "text".

import { defaultKeymap } from '@codemirror/commands'
import { Compartment, EditorState } from '@codemirror/state'
import { drawSelection, EditorView, keymap, placeholder } from '@codemirror/view'
import { yCollab, yUndoManagerKeymap } from 'y-codemirror.next'
import { UndoManager } from 'yjs'

import { plainCarets } from './plain-carets.js'
import { fillToolbar } from './toolbar.js'

/** @type {import('./main.js').OpenEditor} */
export function openEditor({ parent, toolbar, doc, awareness, label, editable }) {
  const text = doc.getText('text')
  const undoManager = new UndoManager(text)
  const writable = new Compartment()
  const readOnly = (/** @type {boolean} */ yes) => [
    EditorState.readOnly.of(yes),
    EditorView.contentAttributes.of({ 'aria-label': label, ...(yes && { 'aria-readonly': 'true' }) }),
  ]
  const view = new EditorView({
    parent,
    state: EditorState.create({
      doc: text.toString(),
      extensions: [
        // Tab moves on to the next control, as everywhere on the page.
        keymap.of([...yUndoManagerKeymap, ...defaultKeymap]),
        EditorView.lineWrapping,
        drawSelection(),
        placeholder('Write something…'),
        writable.of(readOnly(!editable)),
        yCollab(text, null, { undoManager }),
        plainCarets(text, awareness),
      ],
    }),
  })

  const step = (/** @type {'undo' | 'redo'} */ which) => () => {
    undoManager[which]()
    view.focus()
  }
  let isEditable = editable
  const bar = fillToolbar(toolbar, [
    [
      { label: 'Undo', icon: 'undo', keys: 'Mod-Z', run: step('undo'), enabled: () => isEditable && undoManager.undoStack.length > 0 },
      { label: 'Redo', icon: 'redo', keys: 'Mod-Shift-Z', run: step('redo'), enabled: () => isEditable && undoManager.redoStack.length > 0 },
    ],
  ])
  for (const event of /** @type {const} */ (['stack-item-added', 'stack-item-popped', 'stack-cleared'])) {
    undoManager.on(event, bar.refresh)
  }

  return {
    setEditable(now) {
      if (now === isEditable) return
      isEditable = now
      view.dispatch({ effects: writable.reconfigure(readOnly(!now)) })
      bar.refresh()
    },
    destroy() {
      bar.clear()
      view.destroy()
      undoManager.destroy()
    },
  }
}
