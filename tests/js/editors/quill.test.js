// Quill 2 with y-quill.

import './support/dom.js'

import Quill from 'quill'
import { QuillBinding } from 'y-quill'
import { UndoManager } from 'yjs'

import { testEditor } from './support/suite.js'
import { DISTINCT_WORDS, place, stretch } from './support/typist.js'

const FIELD = 'quill'
const IMAGE = 'data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAACAkQBADs='

// Quill keeps a newline at the end that is not in the shared text, and two Quills do not agree on what becomes of it. So
// the last line is one that nobody touches.
const LAST_LINE = '\nlast line'

function open (doc, awareness, isFirst) {
  const ytext = doc.getText(FIELD)
  if (isFirst) ytext.insert(0, LAST_LINE)
  const element = document.body.appendChild(document.createElement('div'))
  const quill = new Quill(element)
  const binding = new QuillBinding(ytext, quill, awareness)
  const undoManager = new UndoManager(ytext, { trackedOrigins: new Set([binding]) })
  const pieces = () => quill.getContents().ops.map(({ insert }) => insert)
  // One character for each place in what may be edited.
  const places = () => pieces().map(piece => typeof piece === 'string' ? piece : '\ufffc').join('').slice(0, -LAST_LINE.length - 1)
  const insert = (random, word, formats) => quill.insertText(place(places(), random), word, formats, 'user')
  const format = (random, formats) => {
    const [from, to] = stretch(places(), random)
    if (to > from) quill.formatText(from, to - from, random.pick(formats), 'user')
  }
  return {
    edits: [
      random => insert(random, random.pick(DISTINCT_WORDS), {}),
      random => insert(random, random.pick(DISTINCT_WORDS), { bold: true }),
      random => insert(random, '\n', {}),
      random => {
        const [from, to] = stretch(places(), random)
        if (to > from) quill.deleteText(from, to - from, 'user')
      },
      random => format(random, [{ bold: true }, { bold: false }, { italic: true }, { color: '#ff0000' }]),
      random => format(random, [{ link: 'https://example.com/?a&b' }, { link: false }]),
      // Formats of a line that are not each other's alternatives: of a list and a heading, two Quills may choose differently.
      random => quill.formatLine(place(places(), random), 1, random.pick([{ header: 2 }, { header: false }, { align: 'right' }]), 'user'),
      random => quill.insertEmbed(place(places(), random), 'image', IMAGE, 'user')
    ],
    type: text => quill.insertText(0, text, 'user'),
    undo: () => undoManager.undo(),
    redo: () => undoManager.redo(),
    undoManager,
    content: () => quill.getContents().ops,
    text: () => pieces().filter(piece => typeof piece === 'string').join('').slice(0, -1),
    close: () => {
      binding.destroy()
      element.remove()
    }
  }
}

testEditor({ name: 'Quill', field: FIELD, open, json: doc => doc.getText(FIELD).toString() })
