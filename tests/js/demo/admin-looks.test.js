// The page for administration on a phone and on a wide screen, light and dark, for people who see it, hear it, or have no mouse.

import assert from 'node:assert/strict'
import { after, afterEach, before, test } from 'node:test'

import { DARK, PHONE, accessibilityFaults } from './support/accessibility.js'
import { ADMIN_TOKEN, LOCKED, Operator, tokenOf } from './support/admin.js'
import { Browser } from './support/browser.js'
import { Server } from './support/server.js'

const SECTIONS = ['Overview', 'Open pages', 'People', 'All pages', 'Audit', 'Server']
const LONG = `a-page-with-a-name/${'unbreakable'.repeat(15)}`

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

/** People at a page, and pages enough for more than one page of a table. @param {Operator} operator */
async function fill(operator) {
  for (let n = 0; n < 27; n += 1) await operator.writes(`many/${n}`, 'word '.repeat(n + 1))
  await operator.writes(LONG, 'text')
  await operator.asks(`/api/pages/${encodeURIComponent(LONG)}/permissions/eve`, { method: 'PUT', body: { role: 'edit' } })
  const user = `somebody-${'with-a-long-id-'.repeat(12)}`
  const ada = await browser.person('Ada', '#7e22ce')
  await ada.opens(server.origin, { page: LONG, kind: 'text', token: tokenOf(user, { '*': 'edit' }, { name: 'Ada Lovelace' }) })
}

/** @type {[string, import('playwright-core').BrowserContextOptions][]} */
const WAYS = [
  ['light', {}],
  ['dark', DARK],
  ['phone', PHONE],
  ['phone, dark', { ...PHONE, ...DARK }],
  ['tablet', { viewport: { width: 800, height: 1000 } }],
]

for (const [way, options] of WAYS) {
  test(`${way}: every section is accessible and fits, empty and full, with its dialogs`, async () => {
    const operator = await Operator.arrives(browser, server, options)
    const { page, person } = operator
    const name = way.replace(', ', '-')
    const isGood = async (/** @type {string} */ what) => {
      assert.deepEqual(await accessibilityFaults(person), [], what)
      const [content, window] = await operator.widths()
      assert.equal(content, window, `${what}: nothing makes the page wider than the screen`)
    }
    await isGood('sign in')
    await person.screenshot(`admin-${name}-sign-in`)
    await operator.signsIn()
    await operator.isInside()
    await fill(operator)
    for (const section of SECTIONS) {
      await operator.goes(section)
      if (!['Overview', 'Server'].includes(section)) await page.locator('tbody tr').first().waitFor()
      await isGood(section)
      await person.screenshot(`admin-${name}-${section.toLowerCase().replace(' ', '-')}`)
    }
    await operator.goes('Open pages')
    await operator.page.getByLabel('Id begins with').fill('no such page')
    await operator.button('Show').click()
    await page.getByText('No page is open.').waitFor()
    await isGood('an empty table')
    await operator.page.getByLabel('Id begins with').fill('a-page')
    await operator.button('Show').click()
    await operator.button(LONG).click()
    await page.getByText('Ada Lovelace').last().waitFor()
    await page.getByRole('dialog').getByRole('row').filter({ hasText: 'eve' }).waitFor()
    await isGood('a page')
    await person.screenshot(`admin-${name}-page`)
    await page.getByRole('dialog').getByRole('button', { name: 'Move to the trash' }).click()
    await page.locator('#confirm[open]').waitFor()
    await isGood('a question')
    await person.screenshot(`admin-${name}-question`)
    await page.keyboard.press('Escape')
    await page.keyboard.press('Escape')
    await operator.goes('Server')
    await page.getByLabel('Seconds until it stops').fill('900')
    await operator.button('Drain this server').click()
    await operator.says('Stop this server in 15 min?', 'Begin the drain')
    await page.locator('#drain-banner').waitFor()
    await isGood('a drain')
    await person.screenshot(`admin-${name}-drain`)
    await operator.button('Call off the drain').click()
    await page.locator('#drain-banner').waitFor({ state: 'hidden' })
  })
}

test('a server without a token is accessible, too', async () => {
  const open = await Server.start()
  try {
    for (const options of [DARK, PHONE]) {
      const operator = await Operator.arrives(browser, open, options)
      assert.deepEqual(await accessibilityFaults(operator.person), [])
      const [content, window] = await operator.widths()
      assert.equal(content, window)
    }
  } finally {
    await open.stop()
  }
})

test('everything is done by keyboard alone, and the focus is never lost', async () => {
  const operator = await Operator.arrives(browser, server)
  const { page } = operator
  const focused = () => page.evaluate(() => document.activeElement?.getAttribute('aria-label') ?? document.activeElement?.textContent)
  /** Presses the key until something has the focus. @param {string} what @param {string} [key] */
  const tabs = async (what, key = 'Tab') => {
    for (let n = 0; n < 80; n += 1) {
      if ((await focused()) === what) return
      await page.keyboard.press(key)
    }
    assert.fail(`${what} cannot be reached; the focus is on ${await focused()}`)
  }
  // The field has the focus at once.
  await page.keyboard.type(ADMIN_TOKEN)
  await page.keyboard.press('Enter')
  await operator.isInside()
  assert.equal(await focused(), 'Overview')
  await operator.writes('keys/page', 'text')
  await tabs('All pages', 'Shift+Tab')
  await page.keyboard.press('Enter')
  await page.getByRole('heading', { name: 'All pages' }).waitFor()
  assert.equal(await focused(), 'All pages', 'the heading, from where one reads on')
  await page.getByLabel('Id begins with').focus()
  await page.keyboard.type('keys/')
  await page.keyboard.press('Enter')
  await operator.button('Move keys/page to the trash').waitFor()
  await tabs('Move keys/page to the trash')
  await page.keyboard.press('Enter')
  // The question begins with what does nothing.
  assert.equal(await focused(), 'Cancel')
  await page.keyboard.press('Escape')
  assert.equal(await focused(), 'Move keys/page to the trash', 'back where it was asked')
  await page.keyboard.press('Enter')
  await tabs('Move to the trash')
  await page.keyboard.press('Enter')
  await operator.isTold('keys/page is in the trash.')
  const { pages } = await operator.asks('/api/pages?deleted=true')
  assert.ok(pages.some((/** @type {{ pageId: string }} */ { pageId }) => pageId === 'keys/page'))
  // The first stop of the page leads past its head.
  await page.reload()
  await operator.isInside()
  await page.keyboard.press('Tab')
  assert.equal(await focused(), 'Skip to the content')
})

test('rows that are read again leave the focus where it is and nothing moves', async () => {
  const operator = await Operator.enters(browser, server)
  for (const page of ['still/a', 'still/b']) await operator.writes(page, 'text')
  await operator.goes('Open pages')
  await operator.page.getByLabel('Id begins with').fill('still/')
  await operator.button('Show').click()
  await operator.row('still/b').waitFor()
  await operator.button('still/b').focus()
  const places = () => operator.page.evaluate(() => ['#nav', 'h2', 'form', 'thead'].map((where) => JSON.stringify(document.querySelector(where)?.getBoundingClientRect())))
  const before = await places()
  const ada = await browser.person('Ada', '#7e22ce')
  await ada.opens(server.origin, { page: 'still/b', kind: 'text', token: tokenOf('ada') })
  await operator.row('still/b').getByText('ada').waitFor()
  assert.equal(await operator.page.evaluate(() => document.activeElement?.textContent), 'still/b')
  assert.deepEqual(await places(), before)
})

test('what comes and goes is not read aloud, and what was done is', async () => {
  const operator = await Operator.enters(browser, server)
  await operator.goes('Overview')
  await operator.page.evaluate(() => {
    const heard = /** @type {any} */ (window)
    heard.heard = []
    for (const region of document.querySelectorAll('[role=status], [role=alert], [aria-live]')) {
      new MutationObserver(() => heard.heard.push(region.textContent)).observe(region, { childList: true, characterData: true, subtree: true })
    }
  })
  const heard = () => operator.page.evaluate(() => /** @type {any} */ (window).heard.filter((/** @type {string} */ text) => text !== ''))
  const ada = await browser.person('Ada', '#7e22ce')
  await ada.opens(server.origin, { page: 'quiet', kind: 'text', token: tokenOf('ada') })
  await operator.page.locator('dd', { hasText: /^1$/ }).first().waitFor()
  assert.deepEqual(await heard(), [])
  await operator.goes('Server')
  await operator.page.getByLabel('Level, or levels of parts').fill('info')
  await operator.button('Change the log').click()
  await operator.isTold('Logged from now on: info.')
  await operator.page.locator('#announcement', { hasText: 'Logged from now on: info.' }).waitFor({ state: 'attached' })
  assert.deepEqual(await heard(), ['Logged from now on: info.'])
})
