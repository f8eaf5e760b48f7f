// Windows of Chromium in which somebody edits, and what they show.

import assert from 'node:assert/strict'
import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import { chromium } from 'playwright-core'

import { until } from '../../support/wait.js'

const ARGUMENTS = [
  '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync'
]
const PATIENCE_MS = 20_000
const SHOTS = process.env.EXAMPLES_SCREENSHOTS ?? mkdtempSync(join(tmpdir(), 'pageroom-examples-screenshots-'))
/** What the browser itself complains about while a server is away, or a backend says that nobody is signed in. */
const EXPECTED = /^(WebSocket connection to '\S+' failed|Failed to load resource: (net::ERR_CONNECTION_REFUSED|.* 401 ))/

export class Browser {
  #browser
  /** @type {Window[]} */
  #windows = []

  static async launch () {
    const browser = new Browser()
    browser.#browser = await chromium.launch({ executablePath: process.env.CHROMIUM_PATH ?? '/usr/bin/chromium', args: ARGUMENTS })
    return browser
  }

  /** A window that shares nothing with the others, so that everything goes over the server. */
  async window (editor) {
    const context = await this.#browser.newContext({ viewport: { width: 900, height: 600 } })
    context.setDefaultTimeout(PATIENCE_MS)
    const window = new Window(editor, await context.newPage())
    this.#windows.push(window)
    return window
  }

  /** Closes all windows, and checks that no page had anything to complain about. */
  async clear () {
    const windows = this.#windows.splice(0)
    await Promise.all(windows.map(({ page }) => page.context().close()))
    for (const { complaints, strangers } of windows) {
      assert.deepEqual(complaints, [], 'what a page complains about')
      assert.deepEqual(strangers, [], 'what a page asks of other servers')
    }
  }

  async close () {
    await this.#browser.close()
  }
}

/** An editor in a window: where its text is, line by line, and the names beside the carets of the others. */
export class Window {
  complaints = []
  strangers = []

  /** @param {{ text: string, line: string, caret: string }} editor selectors of these */
  constructor (editor, page) {
    this.editor = editor
    this.page = page
    page.on('console', message => {
      if (['error', 'warning'].includes(message.type()) && !EXPECTED.test(message.text())) this.complaints.push(message.text())
    })
    page.on('pageerror', error => this.complaints.push(String(error)))
    const seen = url => {
      const { hostname, protocol } = new URL(url)
      if (hostname !== '127.0.0.1' && protocol !== 'data:') this.strangers.push(url)
    }
    page.on('request', request => seen(request.url()))
    page.on('websocket', socket => seen(socket.url()))
  }

  /** Opens an address; gives the name that this window has. */
  async opens (url) {
    await this.page.goto(url)
    await this.is('connected')
    this.name = (await this.page.locator('#status').textContent()).split(',')[0]
    return this.name
  }

  /** Waits until the line about the connection ends with one of these words. */
  async is (...states) {
    let told
    await until(() => `it is ${states.join(' or ')}: ${told}`, async () => {
      told = await this.page.locator('#status').textContent()
      return states.some(state => told.endsWith(`, ${state}`))
    }, PATIENCE_MS)
  }

  /** Types at the end of the text. */
  async types (text) {
    const { page } = this
    // Two clicks at once are a double click, which selects something.
    if (await page.locator(`${this.editor.text}:focus`).count() === 0) await page.locator(this.editor.text).click()
    await page.keyboard.press('Control+End')
    await page.keyboard.type(text)
  }

  /** What the text says, line by line, without empty lines and the names beside carets. */
  async lines () {
    return this.page.evaluate(({ text, line, caret }) => {
      const shown = document.querySelector(text)?.cloneNode(true)
      if (!shown) return null
      for (const element of shown.querySelectorAll(caret)) element.remove()
      // Editors set a caret between characters of no width.
      const lines = [...shown.querySelectorAll(line)].map(element => element.textContent.replace(/[\u2060\ufeff\u200b]/g, ''))
      return lines.filter(text => text !== '')
    }, this.editor)
  }

  /** Waits until the text is this. */
  async reads (lines) {
    await this.readsOneOf(lines)
  }

  /** Waits until the text is one of these, and gives that. */
  async readsOneOf (...texts) {
    let seen
    return until(() => `it reads ${JSON.stringify(texts)}: ${JSON.stringify(seen)}`, async () => {
      seen = await this.lines()
      return texts.find(lines => isDeepStrictEqual(seen, lines))
    }, PATIENCE_MS)
  }

  /** Waits until a name stands beside a caret where it can be read. */
  async seesCaretOf (name) {
    const label = this.page.locator(this.editor.caret, { hasText: name })
    await label.waitFor()
    await until(`the name ${name} is seen`, () => label.evaluate((element, text) => {
      const { width, height, top } = element.getBoundingClientRect()
      const seen = element.checkVisibility({ checkOpacity: true, checkVisibilityCSS: true })
      // Above its editor something else may cover it.
      return seen && width > 20 && height > 8 && top >= document.querySelector(text).getBoundingClientRect().top
    }, this.editor.text), PATIENCE_MS)
  }

  async screenshot (name) {
    await this.page.screenshot({ path: join(SHOTS, `${name}.png`) })
  }
}
