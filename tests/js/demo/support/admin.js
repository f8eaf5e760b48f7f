// Whoever runs a server, at the page for administration.

import assert from 'node:assert/strict'
import { createHmac } from 'node:crypto'

export const ADMIN_TOKEN = 'the-backend-knows-this-and-nobody-else-does'
/** A server on which users need tokens. */
export const LOCKED = { PAGEROOM_ADMIN_TOKEN: ADMIN_TOKEN, JWT_SECRET: 'a-secret-that-has-at-least-32-bytes-in-it' }

/** A token of a user, signed as an application signs them. @param {string} user @param {Record<string, string>} pages @param {object} [claims] */
export function tokenOf(user, pages = { '*': 'edit' }, claims = {}) {
  const part = (/** @type {object} */ value) => Buffer.from(JSON.stringify(value)).toString('base64url')
  const iat = Math.floor(Date.now() / 1000)
  const signed = `${part({ alg: 'HS256', typ: 'JWT' })}.${part({ sub: user, iat, exp: iat + 3600, pages, ...claims })}`
  return `${signed}.${createHmac('sha256', LOCKED.JWT_SECRET).update(signed).digest('base64url')}`
}

export class Operator {
  /** @param {import('./browser.js').Person} person @param {import('./server.js').Server} server */
  constructor(person, server) {
    this.person = person
    this.page = person.page
    this.server = server
  }

  /** @param {import('./browser.js').Browser} browser @param {import('./server.js').Server} server @param {import('playwright-core').BrowserContextOptions} [options] */
  static async arrives(browser, server, options) {
    const operator = new Operator(await browser.person('Operator', '#1d4ed8', options), server)
    await operator.page.goto(`${server.origin}/admin`)
    return operator
  }

  /** @param {string} [token] */
  async signsIn(token = ADMIN_TOKEN) {
    await this.page.getByLabel('Admin token').fill(token)
    await this.page.getByRole('button', { name: 'Sign in' }).click()
    return this
  }

  async isInside() {
    await this.page.locator('#live[data-kind="live"]').waitFor()
    return this
  }

  /** Signs in at a server. @param {import('./browser.js').Browser} browser @param {import('./server.js').Server} server @param {import('playwright-core').BrowserContextOptions} [options] */
  static async enters(browser, server, options) {
    const operator = await Operator.arrives(browser, server, options)
    await operator.signsIn()
    return operator.isInside()
  }

  /** Goes to a section by its link. @param {string} title */
  async goes(title) {
    await this.page.getByRole('navigation', { name: 'Sections' }).getByRole('link', { name: title, exact: true }).click()
    await this.page.getByRole('heading', { level: 2, name: title }).waitFor()
    return this
  }

  /** @param {string} name */
  button(name) {
    return this.page.getByRole('button', { name, exact: true })
  }

  /** @param {string} text */
  row(text) {
    return this.page.getByRole('row').filter({ hasText: text })
  }

  /** Says yes to the question that is asked, which names what it does. @param {string} title @param {string} yes */
  async says(title, yes) {
    const dialog = this.page.getByRole('dialog', { name: title, exact: true })
    await dialog.getByRole('button', { name: yes, exact: true }).click()
    await dialog.waitFor({ state: 'hidden' })
  }

  /** Waits until it is so. @param {() => Promise<boolean>} isSo @param {string} what */
  async until(isSo, what) {
    const deadline = Date.now() + 15_000
    while (!(await isSo())) {
      assert.ok(Date.now() < deadline, what)
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
  }

  /** @param {string} words */
  async isTold(words) {
    await this.page.locator('#notice', { hasText: words }).waitFor()
  }

  /** Asks the server itself. @param {string} path @param {{ method?: string, body?: unknown }} [options] */
  async asks(path, { method = 'GET', body } = {}) {
    const response = await fetch(`${this.server.origin}${path}`, {
      method,
      headers: { Authorization: `Bearer ${ADMIN_TOKEN}`, 'Content-Type': 'application/json' },
      body: body === undefined ? undefined : JSON.stringify(body),
    })
    assert.ok(response.ok, `${method} ${path}: ${response.status}`)
    return response.status === 204 ? null : response.json()
  }

  /** Makes a page that says something. @param {string} id @param {string} text */
  async writes(id, text) {
    const path = `/api/pages/${encodeURIComponent(id)}/content?format=text&field=text`
    const response = await fetch(`${this.server.origin}${path}`, {
      method: 'PUT',
      headers: { Authorization: `Bearer ${ADMIN_TOKEN}`, 'Content-Type': 'text/plain' },
      body: text,
    })
    assert.ok(response.ok, `${path}: ${response.status} ${await response.text()}`)
  }

  /** How wide what the page shows is, and how wide it may be. */
  async widths() {
    return this.page.evaluate(() => [document.documentElement.scrollWidth, innerWidth])
  }
}
