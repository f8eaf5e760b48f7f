// Names that others chose to harm whoever looks at the page for administration: markup, addresses, invisible and turning letters, and many of them.

import assert from 'node:assert/strict'
import { after, afterEach, before, test } from 'node:test'

import { PHONE } from './support/accessibility.js'
import { LOCKED, Operator, tokenOf } from './support/admin.js'
import { Browser } from './support/browser.js'
import { collisions, inkOutside } from './support/layout.js'
import { Server } from './support/server.js'

/** Made longer, up to the most that an id may have. @param {string} begin @param {string} unit */
function longest(begin, unit) {
  const size = new TextEncoder()
  let text = begin
  while (size.encode(text + unit).length <= 255) text += unit
  return text
}

const RIGHT_TO_LEFT = '\u202e'
const END_OF_ISOLATE = '\u2069'
/** Each with what is to be read of it. @type {[string, string][]} */
const NAMES = [
  ['<img src=x onerror="window.harmed=1">', '<img src=x onerror="window.harmed=1">'],
  ['javascript:window.harmed=2', 'javascript:window.harmed=2'],
  ['"><svg onload=window.harmed=3>{{7*7}}${7*7}', '"><svg onload=window.harmed=3>{{7*7}}${7*7}'],
  [`${END_OF_ISOLATE}${RIGHT_TO_LEFT}txt.exe`, '[U+2069][U+202E]txt.exe'],
  ['a\u200bd\u00ada\ufeff', 'a[U+200B]d[U+00AD]a[U+FEFF]'],
  ['  two  spaces ', '  two  spaces '],
  ['דף של צוות 7', 'דף של צוות 7'],
  [longest('unbreakable', 'W'), longest('unbreakable', 'W')],
  [longest('z', '\u0353\u030d'), longest('z', '\u0353\u030d')],
  [longest('\u{1f9d1}', '\u200d\u{1f9d1}'), longest('\u{1f9d1}', '\u200d\u{1f9d1}')],
]

/** @type {Server} */
let server
/** @type {Browser} */
let browser

before(async () => {
  server = await Server.start(LOCKED)
  browser = await Browser.launch()
})
afterEach(() => browser.clear())
after(async () => {
  await browser?.close()
  await server?.stop()
})

/** A page of each name, which a detail of the audit has as well, and a role of somebody who is called so, too. @param {Operator} operator */
async function fill(operator) {
  const { pages } = await operator.asks('/api/pages')
  for (const [at, [name]] of NAMES.entries()) {
    if (!pages.some((/** @type {{ pageId: string }} */ { pageId }) => pageId === name)) {
      await operator.writes(`before-${at}`, 'text')
      await operator.asks(`/api/pages/before-${at}/rename`, { method: 'POST', body: { pageId: name } })
    }
    const page = encodeURIComponent(name)
    await operator.asks(`/api/pages/${page}/permissions/${page}`, { method: 'PUT', body: { role: 'edit' } })
    await operator.asks('/api/kick', { method: 'POST', body: { userId: name, roomPattern: `page:${name}`, reason: 'session_revoked' } })
    const token = tokenOf(name, { '*': 'edit' }, { name: name.repeat(2) })
    const refused = await fetch(`${operator.server.origin}/api/admin/overview?${new URLSearchParams({ name })}`, { headers: { Authorization: `Bearer ${token}` } })
    assert.equal(refused.status, 403)
  }
}

/** Visitors who come and go by a socket alone, from a window of their own. */
class Visitors {
  /** @param {import('playwright-core').Page} page */
  constructor(page) {
    this.page = page
  }

  static async arrive() {
    const person = await browser.person('Visitors', '#7e22ce')
    const { page } = person
    // There is no icon where they are.
    person.forgiven = /^Failed to load resource: the server responded with a status of 404/
    await page.goto(`${server.origin}/healthz`)
    return new Visitors(page)
  }

  /** Waits until somebody is at a page. @param {string} name @param {string} page */
  async visit(name, page) {
    const token = tokenOf(name, { '*': 'edit' }, { name: name.repeat(2) })
    const address = `${server.origin.replace('http', 'ws')}/ws/${encodeURIComponent(page)}?token=${token}`
    const said = await this.page.evaluate(
      (url) =>
        new Promise((resolve) => {
          const socket = new WebSocket(url)
          socket.onmessage = () => resolve('here')
          socket.onclose = ({ code, reason }) => resolve(`${code} ${reason}`)
        }),
      address,
    )
    assert.equal(said, 'here', name)
  }

  async leave() {
    await this.page.context().close()
  }
}

/** @param {Operator} operator @param {string} where */
async function isUnharmed({ page }, where) {
  assert.deepEqual(await page.evaluate(collisions), [], `${where}: nothing lies over something else, and nothing leaves its place`)
  assert.equal(await page.evaluate(() => /** @type {any} */ (window).harmed), undefined, where)
  const strange = await page.locator('main :is(img, svg, script, iframe, b), dialog :is(img, svg, script), [href^="javascript:"]').count()
  assert.equal(strange, 0, `${where}: nothing became markup`)
}

for (const [way, options] of /** @type {[string, import('playwright-core').BrowserContextOptions][]} */ ([
  ['a wide screen', {}],
  ['a narrow one', { viewport: { width: 920, height: 900 } }],
  ['a phone', PHONE],
])) {
  test(`on ${way} every name is read as it is, runs nothing and hides nothing`, async () => {
    const operator = await Operator.enters(browser, server, options)
    const { page } = operator
    await fill(operator)
    const visitors = await Visitors.arrive()
    await Promise.all(NAMES.map(([name]) => visitors.visit(name, name)))
    try {
      for (const section of ['Open pages', 'People', 'All pages', 'Audit']) {
        await operator.goes(section)
        const named = page.locator('tbody .name')
        for (const [, shown] of NAMES) {
          const texts = () => named.allTextContents()
          await operator.until(async () => (await texts()).some((text) => text.includes(shown)), `${section}: ${shown}`)
        }
        await isUnharmed(operator, section)
      }
      await operator.goes('All pages')
      for (const [name, shown] of NAMES) {
        await page.locator('tbody button.link', { has: page.locator('.name', { hasText: shown.trim() }) }).first().click()
        const dialog = page.locator('#page-dialog')
        await dialog.locator('tbody tr').first().waitFor()
        await dialog.locator('.places li').first().waitFor()
        await isUnharmed(operator, `the page ${name}`)
        await dialog.locator('tbody button').click()
        const question = page.locator('#confirm[open]')
        await question.waitFor()
        assert.equal(await question.locator('h2').textContent(), `Take the role of ${shown} on ${shown} away?`)
        await isUnharmed(operator, `a question about ${name}`)
        await page.keyboard.press('Escape')
        await page.keyboard.press('Escape')
      }
    } finally {
      await visitors.leave()
    }
  })
}

test('letters that are stacked upon each other stay in their row', async () => {
  const operator = await Operator.enters(browser, server)
  await fill(operator)
  await operator.goes('All pages')
  const stacked = operator.page.locator('tbody .name', { hasText: 'z\u0353' })
  await stacked.waitFor()
  assert.equal(await inkOutside(operator.page, stacked), false)
})

test('a sentence about somebody ends as it began, whatever letters turn in the name', async () => {
  const operator = await Operator.enters(browser, server)
  const mean = `eve${RIGHT_TO_LEFT}`
  await (await Visitors.arrive()).visit(mean, 'turned')
  await operator.goes('People')
  await operator.row('eve').getByRole('button', { name: /^Send out/ }).click()
  const title = operator.page.locator('#confirm-title')
  assert.equal(await title.textContent(), 'Send eve[U+202E] out of turned?')
  // Its last word is the last one that is read, from left to right.
  const [question, page] = await title.evaluate((heading) => {
    const range = document.createRange()
    const walker = document.createTreeWalker(heading, NodeFilter.SHOW_TEXT)
    const places = []
    while (walker.nextNode()) {
      range.selectNodeContents(walker.currentNode)
      places.push({ text: walker.currentNode.textContent, left: range.getBoundingClientRect().left })
    }
    return [places.at(-1), places.at(-2)]
  })
  assert.deepEqual([page?.text, question?.text], ['turned', '?'])
  assert.ok(page && question && page.left < question.left)
  await operator.page.getByRole('button', { name: 'Send out', exact: true }).last().click()
  await operator.isTold('eve[U+202E] was sent out of turned: one connection ended.')
})

test('what is done to somebody who is called like a step of a path is done to nobody else', async () => {
  const operator = await Operator.enters(browser, server)
  await operator.writes('steps/page', 'text')
  await operator.goes('All pages')
  await operator.page.getByLabel('Id begins with').fill('steps/')
  await operator.button('Show').click()
  await operator.button('steps/page').click()
  const dialog = operator.page.getByRole('dialog', { name: 'steps/page' })
  await dialog.getByText('No role is set here.').waitFor()
  for (const steps of ['.', '..']) {
    await dialog.getByLabel('User id').fill(steps)
    await dialog.getByRole('button', { name: 'Set the role' }).click()
    await operator.isTold(`That was not done. A browser cannot send the id “${steps}” as a part of an address`)
    await operator.button('Dismiss').click()
  }
  await operator.page.keyboard.press('Escape')
  await operator.goes('People')
  await operator.page.getByRole('searchbox', { name: 'User id' }).fill('..')
  await operator.button('Find').click()
  await operator.button('Sign out ..').click()
  await operator.says('Sign .. out everywhere?', 'Sign out everywhere')
  await operator.isTold('That was not done.')
  const { pages } = await operator.asks('/api/pages?prefix=steps/')
  assert.equal(pages.length, 1)
})

test('whoever comes with such a name moves nothing but rows', async () => {
  const operator = await Operator.enters(browser, server)
  await operator.writes('moved', 'text')
  await operator.goes('Open pages')
  await operator.page.evaluate(() => {
    const seen = /** @type {any} */ (window)
    seen.moved = []
    const observer = new PerformanceObserver((list) => {
      for (const entry of list.getEntries()) {
        for (const { node } of /** @type {any} */ (entry).sources) seen.moved.push(node?.parentElement?.closest('tbody') ? 'row' : (node?.outerHTML ?? String(node)))
      }
    })
    observer.observe({ type: 'layout-shift', buffered: false })
  })
  const visitors = await Visitors.arrive()
  await Promise.all(NAMES.map(([name]) => visitors.visit(name, 'moved')))
  await operator.row('moved').getByText(`and ${NAMES.length - 3} more`).waitFor()
  const moved = await operator.page.evaluate(() => /** @type {any} */ (window).moved)
  assert.deepEqual(moved.filter((/** @type {string} */ what) => what !== 'row'), [])
})
