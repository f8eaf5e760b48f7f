// Monaco with y-monaco, for a browser: Node has nothing that it could draw on.

import * as monaco from 'monaco-editor/editor/editor.api.js'
import { MonacoBinding } from 'y-monaco'
import { UndoManager } from 'yjs'

import { PROVIDERS } from './providers.js'
import { Typist, WORDS, place, stretch } from './typist.js'

const FIELD = 'monaco'

globalThis.MonacoEnvironment = { getWorker: () => new Worker('/worker.js') }

function open (doc, awareness) {
  const ytext = doc.getText(FIELD)
  const element = document.body.appendChild(document.createElement('div'))
  element.style.cssText = 'width: 600px; height: 300px'
  const model = monaco.editor.createModel('', 'plaintext')
  const editor = monaco.editor.create(element, { model })
  const binding = new MonacoBinding(ytext, model, new Set([editor]), awareness)
  const undoManager = new UndoManager(ytext, { trackedOrigins: new Set([binding]) })
  const text = () => model.getValue()
  const change = (...edits) => editor.executeEdits('test', edits.map(([from, to, text]) => ({
    range: monaco.Range.fromPositions(model.getPositionAt(from), model.getPositionAt(to)), text, forceMoveMarkers: true
  })))
  const insert = (at, text) => change([at, at, text])
  return {
    edits: [
      random => insert(place(text(), random), random.pick(WORDS)),
      random => insert(place(text(), random), '\n'),
      random => change([...stretch(text(), random), random.pick(WORDS)]),
      random => change([...stretch(text(), random), '']),
      random => {
        const [one, other] = [place(text(), random), place(text(), random)].sort((a, b) => a - b)
        if (one < other) change([one, one, random.pick(WORDS)], [other, other, random.pick(WORDS)])
      }
    ],
    type: text => insert(0, text),
    undo: () => undoManager.undo(),
    redo: () => undoManager.redo(),
    undoManager,
    content: text,
    text,
    close: () => {
      binding.destroy()
      editor.dispose()
      model.dispose()
      element.remove()
    }
  }
}

const KIND = { name: 'Monaco', field: FIELD, open, json: doc => doc.getText(FIELD).toString() }

/** Somebody sits down at this browser. */
globalThis.join = (provider, place) => {
  globalThis.typist = new Typist(KIND, PROVIDERS.find(({ name }) => name === provider), place)
}
