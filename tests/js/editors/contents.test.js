// Clients that save HTML of their editor, beside Tiptap with Collaboration on the same page: each has what the other writes.

import './support/dom.js'

import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'

import { Editor, Node } from '@tiptap/core'
import { Collaboration } from '@tiptap/extension-collaboration'
import { Image } from '@tiptap/extension-image'
import { TaskItem, TaskList } from '@tiptap/extension-list'
import { Mention } from '@tiptap/extension-mention'
import { TableKit } from '@tiptap/extension-table'
import { StarterKit } from '@tiptap/starter-kit'
import { io } from 'socket.io-client'

import { Server } from '../support/server.js'
import { until, within } from '../support/wait.js'
import { joined } from './support/joined.js'

const NODES = [Image.configure({ inline: false }), TaskList, TaskItem.configure({ nested: true }), TableKit, Mention]

/** What an editor has that keeps its content itself, and what one has that keeps it in a document of Yjs. Neither adds an empty paragraph. */
const ALONE = [StarterKit.configure({ trailingNode: false }), ...NODES]
const TOGETHER = [StarterKit.configure({ trailingNode: false, undoRedo: false }), ...NODES]

let server
before(async () => { server = await Server.start() })
after(() => server?.dispose())

const ended = []
after(() => ended.reverse().forEach(end => end()))

let pages = 0
const freshPage = () => `html-${++pages}`

const element = () => document.body.appendChild(document.createElement('div'))

function editorWith (options) {
  const editor = new Editor({ element: element(), ...options })
  ended.push(() => editor.destroy())
  return editor
}

/** Tiptap with Collaboration on a page. */
async function together (page, extensions = TOGETHER) {
  const { doc, leave } = await joined(server, page)
  ended.push(leave)
  return editorWith({ extensions: [...extensions, Collaboration.configure({ document: doc })] })
}

/** A client without Yjs, which is sent HTML and saves HTML. */
async function old (pageId) {
  const socket = io(server.url, { forceNew: true, transports: ['websocket'] })
  ended.push(() => socket.disconnect())
  const client = { shown: null }
  socket.on('page_updated', ({ content }) => { client.shown = content })
  const ask = (event, body) => within(`an answer to ${event}`, socket.emitWithAck(event, body))
  client.save = async content => {
    client.shown = content
    const answer = await ask('page_updated', { pageId, content, format: 'html' })
    assert.equal(answer.ok, true, JSON.stringify(answer))
  }
  assert.equal((await ask('join_page', pageId)).ok, true)
  return client
}

/** An editor that keeps its content itself. Spaces are those of its text, as it writes them. */
const alone = html => editorWith({ extensions: ALONE, content: html, parseOptions: { preserveWhitespace: true } })

/** HTML as Tiptap writes what it reads in it. */
function asTiptap (html) {
  const editor = alone(html)
  const written = editor.getHTML()
  editor.destroy()
  return written
}

/** Content of every kind, as an application's editor saves it. */
const CORPUS = {
  'paragraphs and headings': '<h1>One</h1><p>two &lt;b&gt; &amp; "three"</p><h3>four</h3><p></p><p>five</p>',
  marks: '<p><strong>bold</strong> <em>italic <strong>both</strong></em> <s>struck</s> <u>under</u> <code>a &lt; b</code></p>',
  links: '<p>a <a href="https://example.org/?a=1&amp;b=2">link <strong>bold</strong></a> and <a target="_blank" rel="noopener noreferrer nofollow" href="mailto:a@example.org">mail</a></p>',
  lists: '<ul><li><p>one</p><ul><li><p>inner</p></li></ul></li><li><p>two</p></li></ul><ol start="3"><li><p>three</p></li><li><p>four</p></li></ol>',
  'quotes, rules and breaks': '<blockquote><p>said<br>by her</p></blockquote><hr><p>behind</p>',
  'code blocks': '<pre><code class="language-js">const a = \'&lt;b&gt;\'\n\n  a &amp;&amp; b\n</code></pre><pre><code>plain</code></pre>',
  'task lists': '<ul data-type="taskList"><li data-checked="true" data-type="taskItem"><label><input type="checkbox" checked="checked"><span></span></label><div><p>done</p></div></li><li data-checked="false" data-type="taskItem"><label><input type="checkbox"><span></span></label><div><p>open</p><ul data-type="taskList"><li data-checked="false" data-type="taskItem"><label><input type="checkbox"><span></span></label><div><p>inner</p></div></li></ul></div></li></ul>',
  tables: '<table><tbody><tr><th colspan="2" rowspan="1"><p>head</p></th></tr><tr><td><p>a</p></td><td colspan="1" rowspan="2"><p>b</p><p>c</p></td></tr><tr><td><p></p></td></tr></tbody></table>',
  images: '<p>before</p><img src="https://example.org/a.png?x=1&amp;y=2" alt="an &quot;image&quot;" title="A"><p>behind</p>',
  mentions: '<p>for <span data-type="mention" class="mention" data-id="ada" data-label="Ada L." data-mention-suggestion-char="@">@Ada L.</span>, please</p>',
  'white space and letters': '<p>a  b &nbsp; c</p><p>Grüße 👋🏽 – مرحبا</p>'
}

for (const [kind, html] of Object.entries(CORPUS)) {
  test(`${kind}: saved as HTML, shown and edited in Tiptap, heard as HTML`, async () => {
    const page = freshPage()
    const ada = await old(page)
    await ada.save(html)
    const expected = asTiptap(html)
    const editor = await together(page)
    assert.equal(editor.getHTML(), expected, 'shown as Tiptap itself shows it')
    const ben = await old(page)
    await until('a newcomer is sent it', () => ben.shown)
    assert.equal(asTiptap(ben.shown), expected, 'and to Tiptap it is the same')
    // Tiptap edits, and the others hear it.
    editor.commands.insertContentAt(0, '<p>typed in front</p>')
    editor.commands.insertContentAt(editor.state.doc.content.size, '<h2>typed <em>behind</em></h2>')
    for (const client of [ada, ben]) {
      await until(() => `the edit, not ${client.shown} but ${editor.getHTML()}`, () => asTiptap(client.shown) === editor.getHTML())
    }
    // Who saves HTML has an editor, too.
    const own = alone(ben.shown)
    assert.equal(own.getHTML(), editor.getHTML())
    own.commands.insertContentAt(own.state.doc.content.size, '<p>by Ben</p>')
    await ben.save(own.getHTML())
    await until(() => `what Ben saved, not ${editor.getHTML()}`, () => editor.getHTML() === own.getHTML())
    await until('Ada has it', () => asTiptap(ada.shown) === own.getHTML())
  })
}

test('what one types while another saves is in both editors', async () => {
  const page = freshPage()
  const ada = await old(page)
  await ada.save('<h2>Plan</h2><p>first line</p><ul><li><p>one</p></li></ul>')
  const editor = await together(page)
  // At once: neither has what the other writes.
  const own = alone(ada.shown)
  own.commands.insertContentAt(own.state.doc.content.size, '<p>saved</p>')
  own.commands.setTextSelection({ from: 8, to: 13 })
  own.commands.toggleBold()
  editor.commands.insertContentAt(0, '<p>typed</p>')
  await ada.save(own.getHTML())
  const expected = '<p>typed</p><h2>Plan</h2><p>f<strong>irst </strong>line</p><ul><li><p>one</p></li></ul><p>saved</p>'
  await until(() => `both: ${editor.getHTML()} and ${ada.shown}`, () => [editor.getHTML(), asTiptap(ada.shown)].every(html => html === expected), 5000)
})

describe('what an editor does not know', () => {
  const HTML = '<aside data-kind="note"><p>kept</p></aside><p data-mood="calm">Press <kbd>Ctrl</kbd> and <x-key code="c">C</x-key></p>'

  test('is kept when somebody who shows it saves around it', async () => {
    const page = freshPage()
    const [ada, ben] = [await old(page), await old(page)]
    await ada.save(HTML)
    await until('Ben has it', () => ben.shown !== null)
    assert.equal(ben.shown, HTML, 'as it was saved')
    await ben.save(`<h1>in front</h1>${ben.shown}`)
    await until('Ada has both', () => ada.shown === `<h1>in front</h1>${HTML}`)
    await ada.save(ada.shown.replace('Ctrl', 'Alt'))
    await until('Ben has that', () => ben.shown === `<h1>in front</h1>${HTML.replace('Ctrl', 'Alt')}`)
  })

  test('is a node of its name to Tiptap, with its attributes', async () => {
    const node = (name, options) => Node.create({
      name,
      addAttributes: () => Object.fromEntries(['data-kind', 'code'].map(key => [key, { default: null }])),
      parseHTML: () => [{ tag: name }],
      renderHTML: ({ HTMLAttributes }) => [name, HTMLAttributes, 0],
      ...options
    })
    const own = [
      node('aside', { group: 'block', content: 'block+' }),
      ...['kbd', 'x-key'].map(name => node(name, { group: 'inline', inline: true, content: 'text*' }))
    ]
    const page = freshPage()
    const ada = await old(page)
    await ada.save(HTML.replace(' data-mood="calm"', ''))
    const editor = await together(page, [...TOGETHER, ...own])
    assert.equal(editor.getHTML(), ada.shown)
    editor.commands.insertContentAt(0, '<aside><p>in front</p></aside>')
    await until('Ada has both', () => ada.shown === editor.getHTML())
    assert.ok(ada.shown.startsWith('<aside><p>in front</p></aside><aside data-kind="note">'))
  })
})
