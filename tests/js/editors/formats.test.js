// Documents in an editor's own JSON: BlockNote's blocks and Quill's deltas, read over REST as the editor's packages read the page, and saved as
// edits of what people have open.

import './support/dom.js'

import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { isDeepStrictEqual } from 'node:util'

import { BlockNoteEditor } from '@blocknote/core'
import { blocksToYDoc, withCollaboration, yDocToBlocks } from '@blocknote/core/yjs'
import Quill from 'quill'
import Delta from 'quill-delta'
import { QuillBinding } from 'y-quill'
import * as Y from 'yjs'

import { Server } from '../support/server.js'
import { until } from '../support/wait.js'
import { joined } from './support/joined.js'

let server
before(async () => { server = await Server.start() })
after(() => server?.dispose())

const ended = []
after(() => ended.reverse().forEach(end => end()))

let pages = 0
const freshPage = () => `formats-${++pages}`

async function opened (page) {
  const { doc, awareness, leave } = await joined(server, page)
  ended.push(leave)
  return { doc, awareness }
}

const address = (page, format, field) => `/api/pages/${page}/content?format=${format}${field ? `&field=${field}` : ''}`

async function read (page, format, field) {
  const response = await server.api(address(page, format, field))
  assert.equal(response.status, 200, await response.clone().text())
  const content = format === 'blocknote' || format === 'delta' ? await response.json() : await response.text()
  return { content, etag: response.headers.get('etag'), type: response.headers.get('content-type') }
}

async function put (page, format, content, { field, etag } = {}) {
  const body = typeof content === 'string' ? content : JSON.stringify(content)
  const headers = etag ? { 'if-match': etag } : {}
  const response = await server.api(address(page, format, field), { method: 'PUT', body, headers })
  const answer = await response.json()
  assert.equal(response.status, 200, JSON.stringify(answer))
  return answer
}

/** Writes a document of Yjs into a page. */
async function post (page, doc) {
  const response = await server.api(`/api/pages/${page}/updates`, { method: 'POST', body: Y.encodeStateAsUpdate(doc) })
  assert.equal(response.status, 200, await response.text())
}

/** The page as Yjs has it. */
async function stored (page) {
  const doc = new Y.Doc()
  Y.applyUpdate(doc, await server.snapshot(page))
  return doc
}

const asJson = value => JSON.parse(JSON.stringify(value))

describe('BlockNote', () => {
  const FIELD = 'document-store'
  const headless = BlockNoteEditor.create()
  const asBlockNoteReads = async page => asJson(yDocToBlocks(headless, await stored(page), FIELD))
  const words = (text, styles = {}) => ({ type: 'text', text, styles })

  const BLOCKS = [
    { type: 'heading', props: { level: 2, textColor: 'red' }, content: 'Title' },
    {
      type: 'paragraph',
      props: { textAlignment: 'center', backgroundColor: 'blue' },
      content: [
        words('a '), words('bold', { bold: true, textColor: 'green' }),
        { type: 'link', href: 'https://example.org/?a=1&b=2', content: [words('a '), words('link', { italic: true, code: true })] },
        words(' and\na new line\nand 🌍', { strike: true, underline: true })
      ],
      children: [{ type: 'bulletListItem', content: 'inner', children: [{ type: 'bulletListItem', content: 'deep' }] }]
    },
    { type: 'numberedListItem', props: { start: 3 }, content: 'three' },
    { type: 'numberedListItem', content: 'four' },
    { type: 'checkListItem', props: { checked: true }, content: 'done' },
    { type: 'checkListItem', content: 'open', children: [{ type: 'paragraph', content: 'why' }] },
    { type: 'toggleListItem', content: 'toggle', children: [{ type: 'paragraph', content: 'hidden' }] },
    { type: 'heading', props: { level: 3, isToggleable: true }, content: 'more', children: [{ type: 'paragraph', content: 'within' }] },
    { type: 'codeBlock', props: { language: 'javascript' }, content: 'const a = 1\n\n  b && "c"' },
    { type: 'quote', content: 'said' },
    { type: 'divider' },
    {
      type: 'table',
      content: {
        type: 'tableContent',
        headerRows: 1,
        headerCols: 1,
        columnWidths: [100, undefined, 50],
        rows: [
          { cells: ['a', [words('b', { bold: true })], 'c'] },
          { cells: [{ type: 'tableCell', content: [words('d')], props: { rowspan: 2, backgroundColor: 'red' } }, { type: 'tableCell', content: [words('e\nf')], props: { colspan: 2 } }] },
          { cells: ['g', 'h'] }
        ]
      }
    },
    { type: 'image', props: { url: 'https://example.org/a.png', name: 'a cat', caption: 'Tom', previewWidth: 200 } },
    { type: 'video', props: { url: 'https://example.org/a.mp4' } },
    { type: 'audio', props: { url: 'https://example.org/a.mp3', name: 'song' } },
    { type: 'file', props: { url: 'https://example.org/a.pdf', name: 'a.pdf' } },
    { type: 'paragraph' }
  ]

  test('blocks are read as BlockNote reads them, and what is saved it reads as it was', async () => {
    const page = freshPage()
    await post(page, blocksToYDoc(headless, BLOCKS, FIELD))
    const { content, type } = await read(page, 'blocknote', FIELD)
    assert.deepEqual(content, await asBlockNoteReads(page))
    assert.match(type, /^application\/json/)
    assert.deepEqual((await read(page, 'blocknote')).content, content, 'the only field')
    // Into a page of its own, whole and with nothing but what has to be said.
    for (const blocks of [content, BLOCKS]) {
      const other = freshPage()
      const saved = await put(other, 'blocknote', blocks)
      assert.equal(saved.merged, false)
      const held = await asBlockNoteReads(other)
      assert.deepEqual((await read(other, 'blocknote')).content, held)
      const withoutIds = blocks => blocks.map(({ id, children, ...rest }) => ({ ...rest, children: withoutIds(children) }))
      assert.deepEqual(withoutIds(held), withoutIds(content))
      const ids = blocks => blocks.flatMap(({ id, children }) => [id, ...ids(children)])
      assert.equal(new Set(ids(held)).size, ids(content).length, 'each block has an id of its own')
      assert.ok(ids(held).every(id => typeof id === 'string' && id))
      if (blocks === content) assert.deepEqual(held, content)
      // Saved as it is, nothing changes.
      const { etag, content: again } = await read(other, 'blocknote')
      assert.equal((await put(other, 'blocknote', again, { etag })).etag, etag)
    }
  })

  test('blocks are read and written in other forms, and stay blocks', async () => {
    const page = freshPage()
    await post(page, blocksToYDoc(headless, BLOCKS, FIELD))
    const before = await asBlockNoteReads(page)
    for (const format of ['markdown', 'html']) {
      const { content, etag } = await read(page, format)
      assert.equal((await put(page, format, content, { etag })).etag, etag, `${format} as it was read changes nothing`)
      const changed = content.replace('three', `three of ${format}`)
      assert.equal((await put(page, format, changed, { etag })).merged, false)
    }
    before[2].content[0].text = 'three of html of markdown'
    assert.deepEqual(await asBlockNoteReads(page), before, 'all but those words is as it was')
    const response = await server.api(address(page, 'prosemirror'), { method: 'PUT', body: JSON.stringify({ type: 'doc', content: [{ type: 'paragraph' }] }) })
    assert.equal(response.status, 409)
    assert.equal((await response.json()).error.code, 'conflict')
    const text = (await read(page, 'text', FIELD)).content
    assert.ok(text.startsWith('Title\na boldan') === false && text.startsWith('Title\na bolda link'), text)
  })

  test('what a backend saves while people type is in their editors', async () => {
    const page = freshPage()
    await put(page, 'blocknote', [
      { type: 'heading', content: 'Plan' }, { type: 'paragraph', content: 'one two three' }, { type: 'bulletListItem', content: 'item' }
    ])
    const { content, etag } = await read(page, 'blocknote')
    const { doc, awareness } = await opened(page)
    const element = document.body.appendChild(document.createElement('div'))
    const collaboration = { fragment: doc.getXmlFragment(FIELD), user: { name: 'Ada', color: '#7e22ce' }, provider: { awareness } }
    const editor = BlockNoteEditor.create(withCollaboration({ collaboration }))
    editor.mount(element)
    ended.push(() => editor._tiptapEditor.destroy())
    assert.deepEqual(asJson(editor.document), content, 'the editor shows what was saved')
    const [heading, paragraph, item] = editor.document
    editor.updateBlock(paragraph, { content: 'one two three by Ada' })
    editor.insertBlocks([{ type: 'paragraph', content: 'inner of Ada' }], item, 'after')
    editor.updateBlock(heading, { props: { textColor: 'red' } })
    const theirs = structuredClone(content)
    theirs[0].props.level = 3
    theirs[1].type = 'quote'
    theirs[1].content[0].text = 'zero one two three'
    theirs[2].children = [{ type: 'checkListItem', content: 'nested' }]
    theirs.push({ type: 'paragraph', content: 'by a backend' })
    await until('what Ada wrote has arrived', async () => JSON.stringify(await asBlockNoteReads(page)).includes('inner of Ada'))
    await put(page, 'blocknote', theirs, { etag })
    const texts = blocks => blocks.map(({ type, content, children }) => [type, (content ?? []).map(part => part.text).join(''), ...texts(children)])
    const expected = [
      ['heading', 'Plan'], ['quote', 'zero one two three by Ada'], ['bulletListItem', 'item', ['checkListItem', 'nested']],
      ['paragraph', 'by a backend'], ['paragraph', 'inner of Ada']
    ]
    const sorted = blocks => texts(blocks).map(block => JSON.stringify(block)).sort()
    await until(() => `both are in the editor: ${JSON.stringify(texts(editor.document))}`, () =>
      JSON.stringify(sorted(editor.document)) === JSON.stringify(expected.map(block => JSON.stringify(block)).sort()))
    assert.deepEqual([editor.document[0].props.level, editor.document[0].props.textColor], [3, 'red'])
    assert.deepEqual(asJson(editor.document), (await read(page, 'blocknote')).content)
    // In Markdown, too, beside what Ada goes on writing.
    const markdown = await read(page, 'markdown')
    editor.updateBlock(editor.document[0], { content: 'The plan' })
    await until('that has arrived', async () => (await read(page, 'markdown')).content.includes('The plan'))
    await put(page, 'markdown', `${markdown.content}\n1. first\n2. second\n`, { etag: markdown.etag })
    await until('the items are in the editor', () => editor.document.at(-1).type === 'numberedListItem')
    assert.deepEqual(texts(editor.document).slice(-2), [['numberedListItem', 'first'], ['numberedListItem', 'second']])
    assert.equal(editor.document[0].content[0].text, 'The plan')
    assert.deepEqual(asJson(editor.document), (await read(page, 'blocknote')).content)
  })
})

describe('Quill', () => {
  const FIELD = 'quill'
  /** A delta in the one form that those with the same meaning have. */
  const composed = ({ ops }) => new Delta().compose(new Delta(ops)).ops

  const DOCUMENT = new Delta()
    .insert('Plan').insert('\n', { header: 1 })
    .insert('one ').insert('two', { bold: true }).insert(' three ').insert('link', { link: 'https://example.org' }).insert('\n')
    .insert({ image: 'https://example.org/a.png' }, { width: '200' }).insert('\n')
    .insert('item').insert('\n', { list: 'bullet' }).insert('let a').insert('\n', { 'code-block': 'javascript' })
    .insert('Grüße 🌍\n')

  test('a delta is saved, and read as Yjs reads it', async () => {
    const page = freshPage()
    const saved = await put(page, 'delta', DOCUMENT, { field: FIELD })
    assert.equal(saved.merged, false)
    const ytext = (await stored(page)).getText(FIELD)
    assert.deepEqual(composed({ ops: ytext.toDelta() }), DOCUMENT.ops)
    const { content, etag } = await read(page, 'delta', FIELD)
    assert.deepEqual(content.ops, ytext.toDelta())
    assert.equal((await put(page, 'delta', content, { field: FIELD, etag })).etag, etag, 'as it was read it changes nothing')
    // By its media type, into the only field.
    const response = await server.api(`/api/pages/${page}/content`, {
      method: 'PUT',
      body: JSON.stringify(DOCUMENT.compose(new Delta().retain(4).insert(' B'))),
      headers: { 'content-type': 'application/vnd.quill.delta+json', 'if-match': etag }
    })
    assert.equal(response.status, 200, await response.text())
    assert.match((await read(page, 'text', FIELD)).content, /^Plan B\n/)
    const edits = await server.api(address(page, 'delta', FIELD), { method: 'PUT', body: JSON.stringify(new Delta().retain(4).delete(1)) })
    assert.equal(edits.status, 422, await edits.text())
  })

  test('what a backend saves is merged with what people do in Quill', async () => {
    const page = freshPage()
    await put(page, 'delta', DOCUMENT, { field: FIELD })
    const { etag } = await read(page, 'delta', FIELD)
    const { doc, awareness } = await opened(page)
    const quill = new Quill(document.body.appendChild(document.createElement('div')))
    const binding = new QuillBinding(doc.getText(FIELD), quill, awareness)
    ended.push(() => binding.destroy())
    assert.deepEqual(quill.getContents().ops, DOCUMENT.ops, 'Quill shows what was saved')
    const edit = new Delta().retain(9).retain(3, { italic: true }).retain(6).insert(' by Ada')
    quill.updateContents(edit, 'user')
    const theirs = DOCUMENT.compose(new Delta().retain(5).insert('zero ').retain(7, { color: '#ff0000' }).retain(12).retain(1, { width: '300' }).insert({ image: 'https://example.org/b.png' }))
    await until('what Ada wrote has arrived', async () => (await read(page, 'text', FIELD)).content.includes('Ada'))
    const { merged } = await put(page, 'delta', theirs, { field: FIELD, etag })
    assert.equal(merged, true)
    // As Quill's own transformation has it of edits made at once.
    const expected = DOCUMENT.compose(edit).compose(edit.transform(DOCUMENT.diff(theirs), false))
    const held = () => composed({ ops: doc.getText(FIELD).toDelta() })
    await until(() => `both are in Quill: ${JSON.stringify(quill.getContents())}`, () => isDeepStrictEqual(held(), expected.ops))
    assert.deepEqual(composed(quill.getContents()), expected.ops)
  })
})
