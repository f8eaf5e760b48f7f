// Each editor of examples/ in two windows: what one types the other reads, beside the name of whoever typed it; the server is
// killed and comes back.

import assert from 'node:assert/strict'
import { after, afterEach, before, test } from 'node:test'

import { Server } from '../support/server.js'
import { Applications } from './support/applications.js'
import { Browser } from './support/windows.js'

const CODEMIRROR = { text: '.cm-content', line: '.cm-line', caret: '.cm-ySelectionInfo' }
const TIPTAP = { text: '.tiptap', line: 'p', caret: '.collaboration-carets__label' }
const EXAMPLES = {
  tiptap: { page: 'my-page', editor: TIPTAP, demo: {} },
  codemirror: { page: 'my-text', editor: CODEMIRROR, demo: { kind: 'text' } },
  quill: { page: 'my-letter', editor: { text: '.ql-editor', line: 'p', caret: '.ql-cursor-flag' } },
  blocknote: { page: 'my-blocks', editor: { text: '.bn-editor', line: '.bn-block-content', caret: '.bn-collaboration-cursor__label' } },
  socketio: { page: 'my-text', editor: CODEMIRROR, demo: { kind: 'text' } }
}

let server, applications, browser

before(async () => {
  // Open on loopback because nothing is set: as it is started the first time.
  server = await Server.start()
  applications = await Applications.serve(Object.keys(EXAMPLES), server)
  browser = await Browser.launch()
})
afterEach(() => browser.clear())
after(async () => {
  await browser?.close()
  await applications?.close()
  await server?.dispose()
})

/** Two windows with names of their own. */
async function two (name) {
  const { editor } = EXAMPLES[name]
  const url = `${applications.origin}/${name}/`
  const [one, other] = await Promise.all([browser.window(editor), browser.window(editor)])
  await Promise.all([one.opens(url), other.opens(url)])
  // Names are drawn from so many that two are the same about once in a thousand times.
  while (one.name === other.name) await other.opens(url)
  return { one, other, url }
}

/** The lines that the server has of a page. */
async function stored (page) {
  const response = await server.api(`/api/pages/${page}/content?format=text`)
  if (response.status === 404) return []
  assert.equal(response.status, 200)
  return (await response.text()).split('\n').filter(line => line !== '')
}

for (const [name, { editor, page, demo }] of Object.entries(EXAMPLES)) {
  test(`${name}: two windows edit one page, through a power cut of the server`, async () => {
    const { one, other, url } = await two(name)
    // What an example before this one has left on the same page. A connection alone says nothing of it yet.
    const before = await stored(page)
    await Promise.all([one.reads(before), other.reads(before)])
    await one.types(`${before.length > 0 ? '\n' : ''}Hello`)
    await other.reads([...before, 'Hello'])
    await other.seesCaretOf(one.name)
    await other.types(' you')
    await one.reads([...before, 'Hello you'])
    await one.seesCaretOf(other.name)
    await one.screenshot(name)

    await server.kill()
    await Promise.all([one.is('disconnected', 'connecting'), other.is('disconnected', 'connecting')])
    await Promise.all([one.types('!'), other.types('?')])
    assert.deepEqual([await one.lines(), await other.lines()], [[...before, 'Hello you!'], [...before, 'Hello you?']])
    await server.restart()
    await Promise.all([one.is('connected'), other.is('connected')])
    // Whose sign is first is decided by the ids of their documents.
    const both = await one.readsOneOf([...before, 'Hello you!?'], [...before, 'Hello you?!'])
    await other.reads(both)
    await other.seesCaretOf(one.name)

    const third = await browser.window(editor)
    await third.opens(url)
    await third.reads(both)
    assert.ok((await stored(page)).includes(both.at(-1)), 'what the server has')
    if (demo === undefined) return
    const visitor = await browser.window({ ...editor, caret: '.caret' })
    await visitor.page.goto(`${server.url}/?${new URLSearchParams({ page, ...demo })}`)
    await visitor.reads(both)
  })
}

test('the examples ask for the server where it listens by default', async () => {
  const { stdout } = await server.command('serve', '--help')
  assert.match(stdout, /\[env: PORT=\d*\]\s+\[default: 3001\]/)
})
