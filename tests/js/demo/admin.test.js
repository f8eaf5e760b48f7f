// The page for administration does what it says, to real clients of a real server.

import assert from 'node:assert/strict'
import { after, afterEach, before, test } from 'node:test'

import { ADMIN_TOKEN, LOCKED, Operator, tokenOf } from './support/admin.js'
import { Browser } from './support/browser.js'
import { Server } from './support/server.js'

const REFUSED = /^Failed to load resource: the server responded with a status of (401|403|404|409|422|503)/

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

/** Somebody who edits a page in a browser. @param {string} user @param {string} page @param {string} [token] */
async function editor(user, page, token = tokenOf(user)) {
  const person = await browser.person(user, '#7e22ce')
  person.forgiven = REFUSED
  await person.page.goto(`${server.origin}/?${new URLSearchParams({ page, kind: 'text', token })}`)
  return person
}

/** Waits until the server says so. @param {() => Promise<boolean>} isSo @param {string} what */
async function until(isSo, what) {
  const deadline = Date.now() + 15_000
  while (!(await isSo())) {
    assert.ok(Date.now() < deadline, what)
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}

test('only the admin token opens it, and the token is nowhere but in this tab', async () => {
  const operator = await Operator.arrives(browser, server)
  operator.person.forgiven = REFUSED
  const { page } = operator
  assert.equal(await page.locator('#nav').isVisible(), false)
  await operator.signsIn('guessed')
  await page.getByRole('alert').filter({ hasText: 'The server does not take this token.' }).waitFor()
  await operator.signsIn(tokenOf('ada', { '*': 'admin' }))
  await page.getByRole('alert').filter({ hasText: 'not for administration' }).waitFor()
  await operator.signsIn()
  await operator.isInside()
  assert.ok(!page.url().includes(ADMIN_TOKEN))
  const kept = await page.evaluate(() => JSON.stringify([{ ...localStorage }, document.cookie, document.body.outerHTML]))
  assert.ok(!kept.includes(ADMIN_TOKEN), 'it is in no place that stays or can be seen')
  assert.ok(!server.log.includes(ADMIN_TOKEN), 'nor in the log')
  await page.reload()
  await operator.isInside()
  await page.locator('#leave').click()
  await page.getByRole('heading', { name: 'Sign in' }).waitFor()
  assert.equal(await page.locator('#view').innerText(), '')
  assert.equal(await page.evaluate(() => sessionStorage.length), 0)
  await page.reload()
  await page.getByRole('heading', { name: 'Sign in' }).waitFor()
})

test('a server without a token says which setting is missing', async () => {
  const open = await Server.start()
  try {
    const operator = await Operator.arrives(browser, open)
    await operator.page.getByText('Set PAGEROOM_ADMIN_TOKEN').waitFor()
    assert.equal(await operator.page.getByRole('textbox').count(), 0)
  } finally {
    await open.stop()
  }
})

test('what others chose as names is text and nothing else', async () => {
  const evil = '<img src=x onerror="document.title=1">'
  const operator = await Operator.enters(browser, server)
  await operator.writes(evil, 'text')
  const eve = await editor('eve<b>', evil, tokenOf('eve<b>', { '*': 'edit' }, { name: '<script>alert(1)</script>' }))
  await eve.sees('saved')
  await operator.goes('Open pages')
  await operator.row(evil).getByText('<script>alert(1)</script>').waitFor()
  await operator.button(evil).click()
  await operator.page.getByRole('heading', { name: evil }).waitFor()
  await operator.page.keyboard.press('Escape')
  await operator.goes('People')
  await operator.row('eve<b>').getByText(evil).waitFor()
  await operator.button('Sign out eve<b>').click()
  await operator.page.getByRole('dialog', { name: 'Sign eve<b> out everywhere?' }).getByRole('button', { name: 'Cancel' }).click()
  await operator.goes('Audit')
  await operator.row(evil).first().waitFor()
  assert.equal(await operator.page.locator('main img, main b, main script').count(), 0)
})

test('who comes and goes is seen without asking again', async () => {
  const operator = await Operator.enters(browser, server)
  await operator.goes('People')
  const ada = await editor('ada', 'live/one')
  await ada.sees('saved')
  await operator.row('ada').getByText('live/one').waitFor()
  await operator.goes('Open pages')
  await operator.row('live/one').getByText('ada').waitFor()
  await ada.page.context().close()
  await operator.row('live/one').getByText('Nobody').waitFor()
  await operator.goes('People')
  await operator.row('ada').waitFor({ state: 'detached' })
})

test('the overview follows what happens', async () => {
  const operator = await Operator.enters(browser, server)
  const value = (/** @type {string} */ term) => operator.page.locator('dl > div').filter({ has: operator.page.locator('dt', { hasText: new RegExp(`^${term}$`) }) }).locator('dd')
  await value('y-websocket').filter({ hasText: /^0$/ }).waitFor()
  const ada = await editor('ada', 'overview')
  await ada.sees('saved')
  await value('y-websocket').filter({ hasText: /^1$/ }).waitFor()
  await value('State').filter({ hasText: 'Ready' }).waitFor()
  await ada.editor.click()
  await ada.types('words and more words')
  // Rates are of the last second or two.
  await until(async () => {
    await ada.types('x')
    const said = await value('Messages in').first().textContent()
    return said !== '0' && said !== '–'
  }, 'a rate above nothing')
})

test('somebody who is sent out of a page is out of it', async () => {
  const operator = await Operator.enters(browser, server)
  const bob = await editor('bob', 'kick/here')
  await bob.sees('saved')
  await operator.goes('People')
  await operator.button('Send out bob from kick/here').click()
  await operator.says('Send bob out of kick/here?', 'Send out')
  await bob.sees('refused')
  await operator.isTold('bob was sent out of kick/here: one connection ended.')
  // Saying no does nothing.
  const eve = await editor('eve', 'kick/here')
  await eve.sees('saved')
  await operator.button('Send out eve from kick/here').click()
  await operator.says('Send eve out of kick/here?', 'Cancel')
  await operator.button('Send out eve from kick/here').click()
  await operator.page.keyboard.press('Escape')
  await eve.sees('saved')
  const { entries } = await operator.asks('/api/audit?action=kick&user=eve')
  assert.deepEqual(entries, [])
})

test('somebody who is signed out is out everywhere, and the token counts no more', async () => {
  const operator = await Operator.enters(browser, server)
  const token = tokenOf('carl')
  const first = await editor('carl', 'sign-out/one', token)
  const second = await editor('carl', 'sign-out/two', token)
  await Promise.all([first.sees('saved'), second.sees('saved')])
  await operator.goes('People')
  await operator.button('Sign out carl').click()
  await operator.says('Sign carl out everywhere?', 'Sign out everywhere')
  await operator.isTold('carl is signed out everywhere.')
  await Promise.all([first.sees('refused'), second.sees('refused')])
  const again = await editor('carl', 'sign-out/one', token)
  await again.sees('refused')
  // Whoever is not connected can be signed out, too.
  await operator.page.getByLabel('User id').fill('somebody-else')
  await operator.button('Find').click()
  await operator.row('somebody-else').getByText('Not connected to this server').waitFor()
  await operator.button('Sign out somebody-else').click()
  await operator.says('Sign somebody-else out everywhere?', 'Sign out everywhere')
  await operator.isTold('somebody-else is signed out everywhere.')
})

test('a role that is set lets somebody in, and one that is taken away sends them out', async () => {
  const operator = await Operator.enters(browser, server)
  await operator.writes('roles/page', 'text')
  const dora = await editor('dora', 'roles/page', tokenOf('dora', {}))
  await dora.sees('refused')
  await operator.goes('All pages')
  await operator.page.getByLabel('Id begins with').fill('roles/')
  await operator.button('Show').click()
  await operator.button('roles/page').click()
  const dialog = operator.page.getByRole('dialog', { name: 'roles/page' })
  await dialog.getByText('No role is set here.').waitFor()
  await dialog.getByLabel('User id').fill('dora')
  await dialog.getByLabel('Role', { exact: true }).selectOption('edit')
  await dialog.getByRole('button', { name: 'Set the role' }).click()
  await dialog.getByRole('row').filter({ hasText: 'dora' }).getByText('edit').waitFor()
  await dora.page.reload()
  await dora.sees('saved')
  await dialog.getByRole('button', { name: 'Take away the role of dora' }).click()
  await operator.says('Take the role of dora on roles/page away?', 'Take the role away')
  await dora.sees('refused')
  await dialog.getByText('No role is set here.').waitFor()
  // What the server refuses is said in its words.
  operator.person.forgiven = REFUSED
  await dialog.getByLabel('User id').fill('\u0007'.repeat(3))
  await dialog.getByRole('button', { name: 'Set the role' }).click()
  await operator.isTold('That was not done. A user id has 1 to 255 bytes and no control characters.')
})

test('a page goes to the trash and comes back', async () => {
  const operator = await Operator.enters(browser, server)
  await operator.writes('trash/page', 'text')
  const fred = await editor('fred', 'trash/page')
  await fred.sees('saved')
  await operator.goes('All pages')
  await operator.button('Move trash/page to the trash').click()
  await operator.says('Move trash/page to the trash?', 'Move to the trash')
  await fred.sees('refused')
  await operator.row('trash/page').waitFor({ state: 'detached' })
  await operator.page.getByLabel('Which').selectOption('In the trash')
  await operator.button('Restore trash/page').click()
  await operator.isTold('trash/page is open again.')
  await operator.row('trash/page').waitFor({ state: 'detached' })
  await fred.page.reload()
  await fred.sees('saved')
})

test('the audit is searched, and read page by page', async () => {
  const operator = await Operator.enters(browser, server)
  for (let n = 0; n < 30; n += 1) {
    await operator.asks('/api/pages/audited/permissions/gina', { method: 'PUT', body: { role: n % 2 ? 'edit' : 'view' } })
  }
  await until(async () => (await operator.asks('/api/audit?page=audited')).entries.length === 30, 'all to be noted')
  await operator.goes('Audit')
  const rows = operator.page.locator('tbody tr')
  await operator.page.getByLabel('Page or room').fill('audited')
  await operator.page.getByLabel('Action').fill('grant')
  await operator.button('Search').click()
  await until(async () => (await rows.count()) === 25 && (await rows.filter({ hasText: 'gina' }).count()) === 25, 'a page of what was looked for')
  await operator.button('Next page').click()
  await until(async () => (await rows.count()) === 5, 'the rest')
  assert.equal(await operator.button('Next page').isDisabled(), true)
  await operator.button('Previous page').click()
  await until(async () => (await rows.count()) === 25, 'the first page again')
  await operator.page.getByLabel('Outcome').fill('no-such-outcome')
  await operator.button('Search').click()
  await operator.page.getByText('Nothing was noted that fits.').waitFor()
  await operator.button('Clear').click()
  await until(async () => (await rows.count()) === 25, 'everything again')
  // Something new is shown without asking.
  await operator.asks('/api/users/nobody-at-all/block', { method: 'PUT' })
  await operator.row('nobody-at-all').waitFor()
})

test('the level of the log changes what is logged, and is given back', async () => {
  const operator = await Operator.enters(browser, server)
  const logged = async (/** @type {string} */ user) => {
    await operator.asks(`/api/users/${user}/block`, { method: 'PUT' })
    return server.log.includes(user)
  }
  await operator.goes('Server')
  await operator.page.getByText('Logged now: info, as the settings say.').waitFor()
  assert.equal(await operator.button('Back to the settings').isDisabled(), true)
  await operator.page.getByLabel('Level, or levels of parts').fill('warn,pageroom::audit=off')
  await operator.button('Change the log').click()
  await operator.isTold('Logged from now on: warn,pageroom::audit=off.')
  await operator.page.getByText('Logged now: warn,pageroom::audit=off. The settings say info.').waitFor()
  assert.equal(await logged('unlogged-user'), false)
  operator.person.forgiven = REFUSED
  await operator.page.getByLabel('Level, or levels of parts').fill('loud')
  await operator.button('Change the log').click()
  await operator.isTold('That was not done. Part 1 of the filter is neither a level')
  await operator.button('Back to the settings').click()
  await operator.isTold('Logged from now on: info, as the settings say.')
  await until(() => logged('logged-user'), 'the log as it was')
  assert.ok(!server.log.includes('unlogged-user'))
})

test('a drain counts down, keeps newcomers out, and is called off; or the server ends', async () => {
  const own = await Server.start(LOCKED)
  try {
    const operator = await Operator.enters(browser, own)
    operator.person.forgiven = /Failed to load resource/
    const ada = await browser.person('ada', '#7e22ce')
    ada.forgiven = /Failed to load resource/
    await ada.opens(own.origin, { page: 'drained', kind: 'text', token: tokenOf('ada') })
    await operator.goes('Server')
    await operator.page.getByLabel('Seconds until it stops').fill('600')
    await operator.button('Drain this server').click()
    await operator.says('Stop this server in 10 min?', 'Begin the drain')
    const words = operator.page.locator('#drain-words')
    await words.filter({ hasText: /^This server stops in 9 min 5\d s\.$/ }).waitFor()
    const before = await words.textContent()
    await until(async () => (await words.textContent()) !== before, 'the time to get shorter')
    assert.equal((await fetch(`${own.origin}/readyz`)).status, 503)
    const bob = await browser.person('bob', '#7e22ce')
    await bob.page.goto(`${own.origin}/?${new URLSearchParams({ page: 'drained', kind: 'text', token: tokenOf('bob') })}`)
    await bob.sees('offline', 'connecting')
    await ada.editor.click()
    await ada.types('still here')
    await ada.sees('saved')
    await operator.button('Call off the drain').click()
    await operator.isTold('The drain is called off.')
    await operator.page.locator('#drain-banner').waitFor({ state: 'hidden' })
    await bob.sees('saved')
    assert.equal((await fetch(`${own.origin}/readyz`)).status, 200)

    await operator.page.getByLabel('Seconds until it stops').fill('1')
    await operator.button('Drain this server').click()
    await operator.says('Stop this server in 1 s?', 'Begin the drain')
    await until(async () => own.hasEnded, 'the server to end well')
    await ada.sees('offline')
    await operator.page.locator('#live[data-kind="lost"]').waitFor()
    // What was there goes on where it was, when there is a server again.
    await own.start()
    await operator.isInside()
    await ada.sees('saved')
    await ada.reads(['still here'])
  } finally {
    await own.stop()
  }
})
