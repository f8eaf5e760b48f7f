// CodeMirror on a text that everybody edits, over a plain Socket.IO connection.

import './style.css'
import { EditorView, basicSetup } from 'codemirror'
import { io } from 'socket.io-client'
import { yCollab } from 'y-codemirror.next'
import * as Y from 'yjs'

import { syncPage } from './sync.js'

// Whoever is signed in, in your application.
const colors = ['#0f766e', '#1d4ed8', '#7e22ce', '#be185d', '#b91c1c']
const user = { name: `Guest ${Math.ceil(Math.random() * 999)}`, color: colors[Math.floor(Math.random() * colors.length)] }

const socket = io('http://127.0.0.1:3001')
const say = () => {
  document.querySelector('#status').textContent = `${user.name}, ${socket.connected ? 'connected' : 'disconnected'}`
}
socket.on('connect', say)
socket.on('disconnect', say)

const ydoc = new Y.Doc()
const awareness = syncPage(socket, 'my-text', ydoc)
awareness.setLocalStateField('user', { ...user, colorLight: `${user.color}33` })

const ytext = ydoc.getText('text')
new EditorView({
  doc: ytext.toString(),
  extensions: [basicSetup, EditorView.lineWrapping, yCollab(ytext, awareness)],
  parent: document.querySelector('#editor'),
})
