// BlockNote on a page that everybody edits.

import '@blocknote/mantine/style.css'
import './style.css'
import { withCollaboration } from '@blocknote/core/yjs'
import { BlockNoteView } from '@blocknote/mantine'
import { useCreateBlockNote } from '@blocknote/react'
import { HocuspocusProvider } from '@hocuspocus/provider'
import { useEffect, useState } from 'react'
import { createRoot } from 'react-dom/client'
import * as Y from 'yjs'

// Whoever is signed in, in your application.
const colors = ['#0f766e', '#1d4ed8', '#7e22ce', '#be185d', '#b91c1c']
const user = { name: `Guest ${Math.ceil(Math.random() * 999)}`, color: colors[Math.floor(Math.random() * colors.length)] }

const ydoc = new Y.Doc()
const provider = new HocuspocusProvider({ url: 'ws://127.0.0.1:3001/hocuspocus', name: 'my-blocks', document: ydoc })

function Page () {
  const [status, setStatus] = useState('connecting')
  useEffect(() => {
    const show = ({ status }) => setStatus(status)
    provider.on('status', show)
    return () => provider.off('status', show)
  }, [])
  const editor = useCreateBlockNote(withCollaboration({
    collaboration: { fragment: ydoc.getXmlFragment('blocknote'), user, provider },
  }))
  return (
    <>
      <p id="status">{user.name}, {status}</p>
      <BlockNoteView editor={editor} />
    </>
  )
}

createRoot(document.querySelector('#root')).render(<Page />)
