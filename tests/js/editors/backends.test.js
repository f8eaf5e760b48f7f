// Backends read what editors write, in every form, and write into what editors have open.

import './support/dom.js'

import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'

import { Editor, generateJSON, getSchema } from '@tiptap/core'
import { Collaboration } from '@tiptap/extension-collaboration'
import { StarterKit } from '@tiptap/starter-kit'
import Quill from 'quill'
import { initProseMirrorDoc, relativePositionToAbsolutePosition } from 'y-prosemirror'
import { QuillBinding } from 'y-quill'
import * as Y from 'yjs'

import { Server } from '../support/server.js'
import { until } from '../support/wait.js'
import { joined } from './support/joined.js'

const starterKit = StarterKit.configure({ undoRedo: false })

let server
before(async () => { server = await Server.start() })
after(() => server?.dispose())

const ended = []
after(() => ended.reverse().forEach(end => end()))

async function opened (page) {
  const { doc, awareness, leave } = await joined(server, page)
  ended.push(leave)
  return { doc, awareness }
}

const element = () => document.body.appendChild(document.createElement('div'))

async function tiptap (page) {
  const { doc } = await opened(page)
  const editor = new Editor({ element: element(), extensions: [starterKit, Collaboration.configure({ document: doc })] })
  ended.push(() => editor.destroy())
  return editor
}

async function read (page, format) {
  const response = await server.api(`/api/pages/${page}/content?format=${format}`)
  return { content: await response.text(), etag: response.headers.get('etag'), status: response.status }
}

async function write (page, format, content, headers = {}) {
  const response = await server.api(`/api/pages/${page}/content?format=${format}`, { method: 'PUT', body: content, headers })
  const answer = await response.json()
  assert.equal(response.status, 200, JSON.stringify(answer))
  return answer
}

const MARKDOWN = `# Title

Some **bold**, *italic*, ~~struck~~ and \`code\` with a [link](https://example.org/?a=1&b=2).

- one
  - inner
- two

<!-- end list -->

3. three
4. four

> said
> 
> by her

\`\`\`js
const a = '<b>'

a && b
\`\`\`

-----

line\\
break
`

test('a page that a backend writes as Markdown is one that Tiptap has open', async () => {
  const page = 'backend-tiptap'
  const editor = await tiptap(page)
  await write(page, 'markdown', MARKDOWN)
  await until('the title', () => editor.getText().includes('Title'))
  const types = editor.getJSON().content.map(node => node.type)
  assert.deepEqual(types.slice(0, 8), [
    'heading', 'paragraph', 'bulletList', 'orderedList', 'blockquote', 'codeBlock', 'horizontalRule', 'paragraph'
  ])
  assert.equal((await read(page, 'markdown')).content, MARKDOWN)
  // What the server shows is what the editor's own schema makes of it.
  const { content } = await read(page, 'prosemirror')
  const shown = generateJSON((await read(page, 'html')).content, [starterKit])
  const own = editor.schema.nodeFromJSON(JSON.parse(content))
  assert.ok(own.eq(editor.state.doc), 'as ProseMirror has it')
  assert.ok(editor.schema.nodeFromJSON(shown).eq(editor.state.doc), 'as HTML says it')
})

test('what is typed while a backend writes stays, and both see both', async () => {
  const page = 'backend-both'
  const editor = await tiptap(page)
  editor.commands.setContent('<h2>Plan</h2><p>first line</p><p>second line</p>')
  let copy
  await until('all of it', async () => (copy = await read(page, 'markdown')).content.includes('second line'))
  editor.commands.insertContentAt(editor.state.doc.content.size, '<p>typed meanwhile</p>')
  await until('what is typed', async () => (await read(page, 'markdown')).content.includes('typed meanwhile'))
  const changed = copy.content.replace('first line', 'first line, **corrected**').replace('second line', 'second line\n\n- task')
  const { merged } = await write(page, 'markdown', changed, { 'if-match': copy.etag })
  assert.equal(merged, true)
  await until('both', () => ['corrected', 'typed meanwhile', 'task'].every(word => editor.getText().includes(word)))
  assert.ok(editor.getHTML().includes('first line, <strong>corrected</strong>'))
  const edits = [
    { op: 'replace_text', path: '/default', quote: 'typed meanwhile', text: 'typed by hand' },
    { op: 'insert_blocks', path: '/default', after_heading: 'Plan', markdown: 'right behind it' }
  ]
  const response = await server.api(`/api/pages/${page}/edits`, { method: 'POST', body: JSON.stringify(edits) })
  assert.equal(response.status, 200)
  await until('the edits', () => editor.getText().includes('typed by hand'))
  assert.deepEqual(editor.getJSON().content.map(node => node.type).slice(0, 2), ['heading', 'paragraph'])
  assert.equal(editor.state.doc.child(1).textContent, 'right behind it')
})

test('what an assistant writes grows in an open editor', async () => {
  const page = 'backend-append'
  const editor = await tiptap(page)
  editor.commands.setContent('<p>asked</p>')
  await until('the question', async () => (await read(page, 'text')).content.includes('asked'))
  let push
  const body = new ReadableStream({ start (controller) { push = controller } })
  const answering = server.api(`/api/pages/${page}/append`, { method: 'POST', body, duplex: 'half', headers: { 'content-type': 'text/markdown' } })
  const bytes = new TextEncoder()
  push.enqueue(bytes.encode('## Ans'))
  await until('its beginning', () => editor.getText().includes('Ans'))
  push.enqueue(bytes.encode('wer\n\n1. one\n2. **tw'))
  await until('more of it', () => editor.getText().includes('one'))
  editor.commands.insertContentAt(0, '<p>typed in front</p>')
  push.enqueue(bytes.encode('o**\n'))
  push.close()
  assert.equal((await answering).status, 200)
  const html = '<p>typed in front</p><p>asked</p><h2>Answer</h2><ol><li><p>one</p></li><li><p><strong>two</strong></p></li></ol>'
  await until('all of it', () => editor.getHTML().startsWith(html))
})

test('the cursor of an assistant stands where its text ends, as y-prosemirror finds it', async () => {
  const page = 'backend-cursor'
  const { doc, awareness } = await opened(page)
  let push
  const body = new ReadableStream({ start (controller) { push = controller } })
  const answering = server.api(`/api/pages/${page}/append?author=Assistant`, { method: 'POST', body, duplex: 'half', headers: { 'content-type': 'text/markdown' } })
  const fragment = doc.getXmlFragment('default')
  const place = () => {
    const { user, cursor } = [...awareness.getStates().values()].find(({ user }) => user?.name === 'Assistant') ?? {}
    if (!cursor) return null
    assert.match(user.color, /^#[0-9a-f]{6}$/)
    const head = Y.createRelativePositionFromJSON(cursor.head)
    const { doc: shown, mapping } = initProseMirrorDoc(fragment, getSchema([starterKit]))
    const at = relativePositionToAbsolutePosition(doc, fragment, head, mapping)
    return at === null ? null : { before: shown.textBetween(0, at, '|'), isLast: at === shown.content.size || shown.resolve(at).parentOffset === shown.resolve(at).parent.content.size }
  }
  let written = 0
  for (const [piece, text] of [['## Ans', 'Ans'], ['wer\n\n1. one\n2. **tw', 'Answer|one|**tw'], ['o** and \u{1f600}', 'Answer|one|two and \u{1f600}'], ['\n\n> said', 'Answer|one|two and \u{1f600}|said']]) {
    push.enqueue(new TextEncoder().encode(piece))
    await until(`the cursor behind ${text}`, () => place()?.before === text)
    assert.ok(place().isLast)
    if (written++ === 0) doc.getMap('elsewhere').set('edited', true)
  }
  push.close()
  assert.equal((await answering).status, 200)
  await until('it is gone', () => place() === null, 1000)
})

test('what Quill writes is read as a delta, as HTML and as Markdown', async () => {
  const page = 'backend-quill'
  const { doc, awareness } = await opened(page)
  const quill = new Quill(element())
  const binding = new QuillBinding(doc.getText('quill'), quill, awareness)
  ended.push(() => binding.destroy())
  quill.setContents([
    { insert: 'Title' }, { insert: '\n', attributes: { header: 1 } },
    { insert: 'bold', attributes: { bold: true } }, { insert: ' and plain\n' },
    { insert: 'one' }, { insert: '\n', attributes: { list: 'bullet' } }
  ], 'user')
  await until('all of it', async () => (await read(page, 'text')).content.includes('one'))
  const { ops } = JSON.parse((await read(page, 'delta')).content)
  assert.deepEqual(ops, doc.getText('quill').toDelta())
  assert.equal((await read(page, 'markdown')).content, '# Title\n\n**bold** and plain\n\n- one\n')
  assert.equal((await read(page, 'html')).content, '<h1>Title</h1><p><strong>bold</strong> and plain</p><ul><li><p>one</p></li></ul>')
})
