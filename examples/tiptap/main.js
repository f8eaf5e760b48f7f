// Tiptap on a page that everybody edits.

import './style.css'
import { Editor } from '@tiptap/core'
import Collaboration from '@tiptap/extension-collaboration'
import CollaborationCaret from '@tiptap/extension-collaboration-caret'
import StarterKit from '@tiptap/starter-kit'
import { WebsocketProvider } from 'y-websocket'
import * as Y from 'yjs'

// Whoever is signed in, in your application.
const colors = ['#0f766e', '#1d4ed8', '#7e22ce', '#be185d', '#b91c1c']
const user = { name: `Guest ${Math.ceil(Math.random() * 999)}`, color: colors[Math.floor(Math.random() * colors.length)] }

const ydoc = new Y.Doc()
const provider = new WebsocketProvider('ws://127.0.0.1:3001/ws', 'my-page', ydoc)
provider.on('status', ({ status }) => {
  document.querySelector('#status').textContent = `${user.name}, ${status}`
})

new Editor({
  element: document.querySelector('#editor'),
  extensions: [
    // Undo comes from the collaboration, and takes back only what was done here.
    StarterKit.configure({ undoRedo: false, trailingNode: false }),
    Collaboration.configure({ document: ydoc }),
    CollaborationCaret.configure({ provider, user }),
  ],
})
