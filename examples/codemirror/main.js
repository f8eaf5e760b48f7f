// CodeMirror on a text that everybody edits.

import './style.css'
import { EditorView, basicSetup } from 'codemirror'
import { yCollab } from 'y-codemirror.next'
import { WebsocketProvider } from 'y-websocket'
import * as Y from 'yjs'

// Whoever is signed in, in your application.
const colors = ['#0f766e', '#1d4ed8', '#7e22ce', '#be185d', '#b91c1c']
const user = { name: `Guest ${Math.ceil(Math.random() * 999)}`, color: colors[Math.floor(Math.random() * colors.length)] }

const ydoc = new Y.Doc()
const provider = new WebsocketProvider('ws://127.0.0.1:3001/ws', 'my-text', ydoc)
provider.awareness.setLocalStateField('user', { ...user, colorLight: `${user.color}33` })
provider.on('status', ({ status }) => {
  document.querySelector('#status').textContent = `${user.name}, ${status}`
})

const ytext = ydoc.getText('text')
new EditorView({
  doc: ytext.toString(),
  extensions: [basicSetup, EditorView.lineWrapping, yCollab(ytext, provider.awareness)],
  parent: document.querySelector('#editor'),
})
