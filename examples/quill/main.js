// Quill on a page that everybody edits.

import 'quill/dist/quill.snow.css'
import './style.css'
import Quill from 'quill'
import QuillCursors from 'quill-cursors'
import { QuillBinding } from 'y-quill'
import { WebsocketProvider } from 'y-websocket'
import * as Y from 'yjs'

// Whoever is signed in, in your application.
const colors = ['#0f766e', '#1d4ed8', '#7e22ce', '#be185d', '#b91c1c']
const user = { name: `Guest ${Math.ceil(Math.random() * 999)}`, color: colors[Math.floor(Math.random() * colors.length)] }

const ydoc = new Y.Doc()
const provider = new WebsocketProvider('ws://127.0.0.1:3001/ws', 'my-letter', ydoc)
provider.awareness.setLocalStateField('user', user)
provider.on('status', ({ status }) => {
  document.querySelector('#status').textContent = `${user.name}, ${status}`
})

Quill.register('modules/cursors', QuillCursors)
const quill = new Quill('#editor', {
  theme: 'snow',
  modules: {
    toolbar: [[{ header: [1, 2, false] }], ['bold', 'italic', 'link'], [{ list: 'bullet' }, { list: 'ordered' }]],
    cursors: true,
    // Undo takes back only what was done here.
    history: { userOnly: true },
  },
})
new QuillBinding(ydoc.getText('quill'), quill, provider.awareness)
