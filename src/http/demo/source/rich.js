// The rich-text editor: Tiptap on the XML fragment "default".

import { Editor } from '@tiptap/core'
import Collaboration from '@tiptap/extension-collaboration'
import CollaborationCaret from '@tiptap/extension-collaboration-caret'
import { Placeholder } from '@tiptap/extensions'
import StarterKit from '@tiptap/starter-kit'

import { caretElement, selectionAttributes } from './caret.js'
import { foreignNames } from './foreign.js'
import { fillToolbar } from './toolbar.js'

/** @type {import('./main.js').OpenEditor} */
export function openEditor({ parent, toolbar, doc, awareness, label, editable, onForeign }) {
  let isEditable = editable
  /** @returns {{ attributes: Record<string, string> }} */
  const editorProps = () => {
    const attributes = { 'aria-label': label, 'aria-multiline': 'true', role: 'textbox' }
    return { attributes: isEditable ? attributes : { ...attributes, 'aria-readonly': 'true', tabindex: '0' } }
  }
  const editor = new Editor({
    element: parent,
    editable,
    injectCSS: false,
    editorProps: editorProps(),
    extensions: [
      // Undo comes from the collaboration. A trailing paragraph would be written by everybody who only looks.
      StarterKit.configure({ undoRedo: false, trailingNode: false, link: { openOnClick: false } }),
      Placeholder.configure({ placeholder: 'Write something…' }),
      Collaboration.configure({ document: doc, field: 'default' }),
      CollaborationCaret.configure({
        provider: { awareness },
        user: awareness.getLocalState()?.user,
        render: (user) => caretElement({ name: user.name, color: user.color }),
        selectionRender: (user) => selectionAttributes({ color: user.color }),
      }),
    ],
  })

  const bar = fillToolbar(toolbar, controls(editor))
  editor.on('transaction', bar.refresh)

  const fragment = doc.getXmlFragment('default')
  // Before its observers, because the editor deletes what it does not know.
  doc.on('beforeObserverCalls', (transaction) => {
    if (editor.isDestroyed) return
    const names = foreignNames(transaction, fragment, editor.schema)
    if (names.length === 0) return
    bar.clear()
    editor.destroy()
    queueMicrotask(() => onForeign(names))
  })

  return {
    setEditable(now) {
      if (now === isEditable || editor.isDestroyed) return
      isEditable = now
      editor.setOptions({ editable: now, editorProps: editorProps() })
      bar.refresh()
    },
    destroy() {
      bar.clear()
      editor.destroy()
    },
  }
}

/** @param {Editor} editor @returns {import('./toolbar.js').Control[][]} */
function controls(editor) {
  const focused = () => editor.chain().focus()
  const mark = (/** @type {string} */ name, /** @type {string} */ text, /** @type {string} */ icon, /** @type {string} */ keys) => ({
    label: text,
    icon,
    keys,
    run: () => focused().toggleMark(name).run(),
    active: () => editor.isActive(name),
    enabled: () => editor.isEditable && editor.can().toggleMark(name),
  })
  const block = (
    /** @type {string} */ text,
    /** @type {string} */ icon,
    /** @type {string} */ keys,
    /** @type {(chain: import('@tiptap/core').ChainedCommands) => import('@tiptap/core').ChainedCommands} */ toggle,
    /** @type {() => boolean} */ active,
  ) => ({ label: text, icon, keys, run: () => toggle(focused()).run(), active, enabled: () => editor.isEditable })
  const heading = (/** @type {1 | 2 | 3} */ level) =>
    block(
      `Heading ${level}`,
      `h${level}`,
      `Mod-Alt-${level}`,
      (chain) => chain.toggleHeading({ level }),
      () => editor.isActive('heading', { level }),
    )
  const is = (/** @type {string} */ name) => () => editor.isActive(name)

  return [
    [
      { label: 'Undo', icon: 'undo', keys: 'Mod-Z', run: () => focused().undo().run(), enabled: () => editor.isEditable && editor.can().undo() },
      { label: 'Redo', icon: 'redo', keys: 'Mod-Shift-Z', run: () => focused().redo().run(), enabled: () => editor.isEditable && editor.can().redo() },
    ],
    [heading(1), heading(2), heading(3)],
    [
      mark('bold', 'Bold', 'bold', 'Mod-B'),
      mark('italic', 'Italic', 'italic', 'Mod-I'),
      mark('strike', 'Strikethrough', 'strike', 'Mod-Shift-S'),
      mark('code', 'Code', 'code', 'Mod-E'),
    ],
    [
      block('Bullet list', 'bullets', 'Mod-Shift-8', (chain) => chain.toggleBulletList(), is('bulletList')),
      block('Numbered list', 'numbers', 'Mod-Shift-7', (chain) => chain.toggleOrderedList(), is('orderedList')),
      block('Quote', 'quote', 'Mod-Shift-B', (chain) => chain.toggleBlockquote(), is('blockquote')),
      block('Code block', 'block', 'Mod-Alt-C', (chain) => chain.toggleCodeBlock(), is('codeBlock')),
    ],
  ]
}
