// People with a browser each, who look at the demo page, and what can be asked about what they see.

import assert from 'node:assert/strict'
import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { isDeepStrictEqual } from 'node:util'
import { chromium } from 'playwright-core'

const PATIENCE_MS = 15_000
const SHOTS = process.env.DEMO_SCREENSHOTS ?? mkdtempSync(join(tmpdir(), 'pageroom-demo-screenshots-'))
/** What the browser itself complains about while a server is away. */
const NO_CONNECTION = /^(WebSocket connection to '\S+' failed|Failed to load resource: net::ERR_CONNECTION_(REFUSED|RESET))/

export class Browser {
  #browser
  /** @type {Person[]} */
  #people = []

  /** @param {import('playwright-core').Browser} browser */
  constructor(browser) {
    this.#browser = browser
  }

  static async launch() {
    const quiet = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run']
    const offline = ['--disable-background-networking', '--disable-component-update', '--disable-sync']
    const browser = await chromium.launch({
      executablePath: process.env.CHROMIUM_PATH ?? '/usr/bin/chromium',
      args: [...quiet, ...offline],
    })
    return new Browser(browser)
  }

  /** @param {string} name @param {string} color @param {import('playwright-core').BrowserContextOptions} [options] */
  async person(name, color, options = {}) {
    const context = await this.#browser.newContext({ viewport: { width: 1200, height: 800 }, ...options })
    context.setDefaultTimeout(PATIENCE_MS)
    const user = JSON.stringify({ name, color })
    await context.addInitScript((kept) => {
      if (!localStorage.getItem('pageroom.user')) localStorage.setItem('pageroom.user', kept)
    }, user)
    const person = new Person(name, await context.newPage())
    this.#people.push(person)
    return person
  }

  /** Somebody opens another window of the same browser. @param {Person} person */
  async window(person) {
    const window = new Person(person.name, await person.page.context().newPage())
    this.#people.push(window)
    return window
  }

  /** Sends everybody home, and checks that no page had anything to complain about. */
  async clear() {
    const people = this.#people.splice(0)
    await Promise.all(people.map((person) => person.page.context().close()))
    for (const { name, complaints, strangers } of people) {
      assert.deepEqual(complaints, [], `what the page of ${name} complains about`)
      assert.deepEqual(strangers, [], `what the page of ${name} asks of other servers`)
    }
  }

  async close() {
    await this.#browser.close()
  }
}

export class Person {
  /** @type {string[]} */
  complaints = []
  /** @type {string[]} */
  strangers = []
  /** What the browser may say besides, where a test means it to happen. @type {RegExp | null} */
  forgiven = null

  /** @param {string} name @param {import('playwright-core').Page} page */
  constructor(name, page) {
    this.name = name
    this.page = page
    page.on('console', (message) => {
      const isForgiven = NO_CONNECTION.test(message.text()) || this.forgiven?.test(message.text())
      if (['error', 'warning'].includes(message.type()) && !isForgiven) this.complaints.push(message.text())
    })
    page.on('pageerror', (error) => this.complaints.push(String(error)))
    const seen = (/** @type {string} */ url) => {
      const { hostname, protocol } = new URL(url)
      if (hostname !== '127.0.0.1' && protocol !== 'data:') this.strangers.push(url)
    }
    page.on('request', (request) => seen(request.url()))
    page.on('websocket', (socket) => seen(socket.url()))
  }

  /** Opens a page and waits until the server has answered. @param {string} origin @param {Record<string, string>} query */
  async opens(origin, query) {
    await this.page.goto(`${origin}/?${new URLSearchParams(query)}`)
    await this.sees('saved', 'read-only')
    return this
  }

  get editor() {
    return this.page.locator('.tiptap, .cm-content')
  }

  /** @param {string} text */
  async types(text) {
    await this.page.keyboard.type(text)
  }

  /** Puts the caret at the end of the text. */
  async goesToEnd() {
    await this.editor.click()
    await this.page.keyboard.press('Control+End')
  }

  /** Waits until the indicator says one of these. @param {string[]} kinds */
  async sees(...kinds) {
    const list = kinds.map((kind) => `#indicator[data-kind="${kind}"]`).join()
    await this.page.locator(list).waitFor({ timeout: PATIENCE_MS })
  }

  /** Waits until the text is this, not counting the names beside carets. @param {string[]} lines */
  async reads(lines) {
    await this.#becomes(linesInPage, lines, `what ${this.name} reads`)
  }

  /** @param {string} name */
  caretOf(name) {
    return this.page.locator('.caret', { hasText: name })
  }

  /** Waits until exactly these names are shown as here, oneself first. @param {string[]} names */
  async meets(names) {
    await this.#becomes(namesInPage, names, `whom ${this.name} meets`)
  }

  /** Waits until the line about who is typing says this. @param {string} words */
  async seesTyping(words) {
    await this.#becomes(() => document.getElementById('typing')?.textContent, words, `who is typing, for ${this.name}`)
  }

  /**
   * Waits until something in the page is as it should be. (The page's own security policy keeps Playwright from waiting inside.)
   * @template T @param {() => T} look @param {T} wanted @param {string} what
   */
  async #becomes(look, wanted, what) {
    const deadline = Date.now() + PATIENCE_MS
    let seen = await this.page.evaluate(look)
    while (!isDeepStrictEqual(seen, wanted) && Date.now() < deadline) {
      await pause(25)
      seen = await this.page.evaluate(look)
    }
    assert.deepEqual(seen, wanted, what)
  }

  /** From now on notes everything that the indicator says. */
  async watchesIndicator() {
    await this.page.evaluate(() => {
      const indicator = /** @type {HTMLElement} */ (document.getElementById('indicator'))
      const seen = /** @type {any} */ (window)
      seen.indicatorKinds = []
      new MutationObserver(() => seen.indicatorKinds.push(indicator.dataset.kind)).observe(indicator, { attributes: true })
    })
  }

  /** What the indicator has said, without repetitions. @returns {Promise<string[]>} */
  async indicatorHistory() {
    const kinds = await this.page.evaluate(() => /** @type {any} */ (window).indicatorKinds)
    return kinds.filter((/** @type {string} */ kind, /** @type {number} */ at) => kind !== kinds[at - 1])
  }

  /** @param {string} name */
  async screenshot(name) {
    await this.page.screenshot({ path: join(SHOTS, `${name}.png`) })
  }
}

function linesInPage() {
  const editor = document.querySelector('.tiptap, .cm-content')
  if (!editor) return []
  const copy = /** @type {HTMLElement} */ (editor.cloneNode(true))
  for (const caret of copy.querySelectorAll('.caret, .cm-placeholder')) caret.remove()
  return [...copy.querySelectorAll('p, h1, h2, h3, pre, .cm-line')].map((line) => line.textContent ?? '')
}

function namesInPage() {
  return [...document.querySelectorAll('#others li span:last-child')].map((item) => item.textContent ?? '')
}
