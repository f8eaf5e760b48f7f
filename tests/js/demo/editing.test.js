// Several people edit one page in their browsers: every keystroke, carets, who is here, who is typing.

import assert from 'node:assert/strict'
import { after, afterEach, before, test } from 'node:test'
import * as Y from 'yjs'

import { Browser } from './support/browser.js'
import { Server } from './support/server.js'

const VIOLET = '#7e22ce'
const AMBER = '#a14a07'

/** @type {Server} */
let server
/** @type {Browser} */
let browser

before(async () => {
  server = await Server.start()
  browser = await Browser.launch()
})
afterEach(() => browser.clear())
after(async () => {
  await browser?.close()
  await server?.stop()
})

/** @param {Record<string, string>} query */
async function adaAndBob(query) {
  const ada = await browser.person('Ada', VIOLET)
  const bob = await browser.person('Bob', AMBER)
  await Promise.all([ada.opens(server.origin, query), bob.opens(server.origin, query)])
  return { ada, bob }
}

for (const kind of ['rich', 'text']) {
  test(`two people who type at once in a ${kind} page end with the same text`, async () => {
    const { ada, bob } = await adaAndBob({ page: `both/${kind}`, kind })
    await ada.editor.click()
    await ada.types('first\nlast')
    await bob.reads(['first', 'last'])
    await bob.goesToEnd()
    // The editor puts its own caret back where it was when it draws something of the others just while a key moves it.
    await ada.caretOf('Bob').waitFor()
    await Promise.all([ada.seesTyping(''), bob.seesTyping('')])
    await ada.page.keyboard.press('Control+Home')
    const words = 'the quick brown fox jumps over the lazy dog '
    await Promise.all([ada.types(words), bob.types(` ${words.repeat(2)}`)])
    const lines = [`${words}first`, `last ${words.repeat(2)}`]
    await Promise.all([ada.reads(lines), bob.reads(lines)])
    await Promise.all([ada.sees('saved'), bob.sees('saved')])

    const cleo = await (await browser.person('Cleo', '#0f766e')).opens(server.origin, { page: `both/${kind}`, kind })
    await cleo.reads(lines)
  })

  test(`a ${kind} page shows the others' carets with their names, and what they select`, async () => {
    const { ada, bob } = await adaAndBob({ page: `carets ${kind}`, kind })
    await ada.editor.click()
    await ada.types('look here')
    const caret = bob.caretOf('Ada')
    await caret.waitFor()
    assert.equal(await caret.evaluate((element) => getComputedStyle(element).getPropertyValue('--person')), VIOLET)

    await ada.page.keyboard.press('Shift+Home')
    const selected = bob.page.locator('.selected-by-other')
    await selected.waitFor()
    assert.equal(await selected.textContent(), 'look here')

    await bob.goesToEnd()
    await bob.types('!')
    await ada.caretOf('Bob').waitFor()
    await ada.screenshot(`carets-${kind}`)
    assert.equal(await ada.caretOf('Ada').count(), 0, 'nobody sees an extra caret of their own')
  })

  test(`in a ${kind} page undo takes back only what one has done oneself`, async () => {
    const { ada, bob } = await adaAndBob({ page: `undo ${kind}`, kind })
    await ada.editor.click()
    await ada.types('ada')
    await bob.reads(['ada'])
    await bob.goesToEnd()
    await bob.types(' bob')
    await ada.reads(['ada bob'])
    await ada.page.getByRole('button', { name: 'Undo', exact: true }).click()
    await bob.reads([' bob'])
    await ada.page.keyboard.press('Control+Shift+Z')
    await bob.reads(['ada bob'])
  })
}

test('who is here is shown while they are here, under the name they choose', async () => {
  const { ada, bob } = await adaAndBob({ page: 'people' })
  await ada.meets(['Ada (you)', 'Bob'])
  await bob.meets(['Bob (you)', 'Ada'])
  await ada.editor.click()
  await ada.types('x')
  await bob.caretOf('Ada').waitFor()

  await ada.page.locator('#people-button').click()
  await ada.page.getByLabel('Your name').fill('Ada Lovelace')
  await ada.page.getByRole('radio', { name: 'Pink' }).click()
  await ada.page.getByRole('button', { name: 'Done' }).click()
  await bob.meets(['Bob (you)', 'Ada Lovelace'])
  await bob.page.locator('.avatar', { hasText: 'AL' }).first().waitFor()
  await ada.editor.click()
  await bob.caretOf('Ada Lovelace').waitFor()

  await ada.page.reload()
  await bob.meets(['Bob (you)', 'Ada Lovelace'])
  await ada.page.close()
  await bob.meets(['Bob (you)'])
})

test('who is typing is shown while they type', async () => {
  const { ada, bob } = await adaAndBob({ page: 'typing' })
  await ada.editor.click()
  await ada.types('h')
  await bob.seesTyping('Ada is typing…')
  assert.equal(await ada.page.locator('#typing').textContent(), '', 'nobody is told about themselves')
  await bob.seesTyping('')

  await ada.types('i')
  await bob.seesTyping('Ada is typing…')
  await ada.page.getByRole('button', { name: 'Bold' }).focus()
  await bob.seesTyping('')
})

test('the toolbar formats for everybody and shows what is on', async () => {
  const { ada, bob } = await adaAndBob({ page: 'format' })
  await ada.editor.click()
  const press = (/** @type {string} */ name) => ada.page.getByRole('button', { name, exact: true }).click()
  await press('Heading 2')
  await ada.types('Title\n')
  await press('Bold')
  await ada.types('bold')
  await press('Bold')
  await press('Italic')
  await ada.types('italic')
  await press('Italic')
  await press('Strikethrough')
  await ada.types('gone')
  await press('Strikethrough')
  await press('Code')
  await ada.types('code\n')
  await press('Bullet list')
  await ada.types('bullet\n\n')
  await press('Numbered list')
  await ada.types('number\n\n')
  await press('Quote')
  await ada.types('quote\n\n')
  await press('Code block')
  await ada.types('let x')
  assert.equal(await ada.page.getByRole('button', { name: 'Code block' }).getAttribute('aria-pressed'), 'true')
  for (const [selector, text] of [
    ['h2', 'Title'],
    ['strong', 'bold'],
    ['em', 'italic'],
    ['s', 'gone'],
    ['p code', 'code'],
    ['ul li', 'bullet'],
    ['ol li', 'number'],
    ['blockquote', 'quote'],
    ['pre', 'let x'],
  ]) {
    await bob.page.locator(`.tiptap ${selector}`, { hasText: text }).waitFor()
  }
})

test('the toolbar is one stop for the Tab key, and the arrows move inside it', async () => {
  const { ada } = await adaAndBob({ page: 'keys' })
  const focused = () => ada.page.evaluate(() => document.activeElement?.getAttribute('aria-label'))
  await ada.page.getByRole('button', { name: 'Undo', exact: true }).focus()
  await ada.page.keyboard.press('ArrowLeft')
  assert.equal(await focused(), 'Code block')
  await ada.page.keyboard.press('Home')
  await ada.page.keyboard.press('ArrowRight')
  assert.equal(await focused(), 'Redo')
  await ada.page.keyboard.press('Tab')
  assert.equal(await focused(), 'Text of the page keys')
})

test('the form opens any page, whatever its name contains, in the kind that is chosen', async () => {
  const name = "team/Ünïcode & more? 50% #1 + 日本"
  const { ada, bob } = await adaAndBob({ page: 'form' })
  await ada.page.locator('#page-button').click()
  await ada.page.getByLabel('Name of the page').fill(name)
  await ada.page.getByRole('radio', { name: 'Plain text' }).check()
  await ada.page.getByRole('button', { name: 'Open', exact: true }).click()
  await ada.page.locator('.cm-content').waitFor()
  assert.equal(await ada.page.locator('#page-name').textContent(), name)
  await ada.sees('saved')
  await ada.editor.click()
  await ada.types('found')
  await ada.sees('saved')

  await ada.page.context().grantPermissions(['clipboard-read', 'clipboard-write'])
  await ada.page.locator('#share').click()
  await ada.page.locator('#share-label', { hasText: 'Copied' }).waitFor()
  await bob.page.goto(await ada.page.evaluate(() => navigator.clipboard.readText()))
  await bob.reads(['found'])
})

test('a name that no page can have is refused in words', async () => {
  const ada = await browser.person('Ada', VIOLET)
  await ada.page.goto(`${server.origin}/?page=a/../b`)
  await ada.sees('refused')
  await ada.page.locator('#notice', { hasText: '“..”' }).waitFor()
})

test('content that the editor does not know is left as it is', async () => {
  const page = 'with a table'
  const other = new Y.Doc()
  other.getXmlFragment('default').insert(0, [new Y.XmlElement('table')])
  const path = `${server.origin}/api/pages/${encodeURIComponent(page)}`
  const posted = await fetch(`${path}/updates`, { method: 'POST', body: Y.encodeStateAsUpdate(other) })
  assert.ok(posted.ok, `posting an update is answered with ${posted.status}`)

  const ada = await browser.person('Ada', VIOLET)
  await ada.page.goto(`${server.origin}/?${new URLSearchParams({ page })}`)
  await ada.page.locator('#notice', { hasText: 'cannot show (table)' }).waitFor()
  const snapshot = new Y.Doc()
  Y.applyUpdate(snapshot, new Uint8Array(await (await fetch(`${path}/snapshot`)).arrayBuffer()))
  assert.equal(snapshot.getXmlFragment('default').toString(), '<table></table>')
})
