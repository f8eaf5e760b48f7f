// Tiptap for people who are signed in: a backend hands out tokens, and the server takes nobody without one.

import './style.css'
import { Editor } from '@tiptap/core'
import Collaboration from '@tiptap/extension-collaboration'
import CollaborationCaret from '@tiptap/extension-collaboration-caret'
import StarterKit from '@tiptap/starter-kit'
import { WebsocketProvider } from 'y-websocket'
import * as Y from 'yjs'

const signIn = document.querySelector('#sign-in')
const say = (text) => { document.querySelector('#status').textContent = text }

const ydoc = new Y.Doc()
const provider = new WebsocketProvider('ws://127.0.0.1:3001/ws', 'team/notes', ydoc, { connect: false })

const editor = new Editor({
  element: document.querySelector('#editor'),
  extensions: [
    StarterKit.configure({ undoRedo: false, trailingNode: false }),
    Collaboration.configure({ document: ydoc }),
    CollaborationCaret.configure({ provider, user: { name: '', color: '#0f766e' } }),
  ],
})

/** Connects with a token of one's own, which the backend gives to whoever is signed in there. */
async function connect () {
  try {
    const response = await fetch('/api/token')
    signIn.hidden = response.status !== 401
    if (!signIn.hidden) return say('not signed in')
    if (!response.ok) throw new Error(`no token: ${response.status}`)
    const { token, name } = await response.json()
    editor.commands.updateUser({ name, color: '#0f766e' })
    provider.params = { token }
    provider.connect()
  } catch (error) {
    say(`${error.message}; trying again`)
    setTimeout(connect, 2_000)
  }
}

provider.on('status', ({ status }) => say(`${provider.awareness.getLocalState()?.user.name}, ${status}`))
// The server ends a connection whose token has ended (4401); the next token opens it again.
provider.on('closed', ({ code, reason }) => {
  say(reason)
  if (code === 4401) setTimeout(connect, 1_000)
})
signIn.addEventListener('submit', async (event) => {
  event.preventDefault()
  await fetch('/api/sign-in', { method: 'POST', body: new URLSearchParams(new FormData(signIn)) })
  connect()
})
connect()
