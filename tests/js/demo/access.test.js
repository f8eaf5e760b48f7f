// People who may only read, and people who may not come in.

import assert from 'node:assert/strict'
import { after, afterEach, before, test } from 'node:test'

import { Browser } from './support/browser.js'
import { Server } from './support/server.js'

/** @type {Server} */
let server
/** @type {Browser} */
let browser

before(async () => {
  server = await Server.start({ JWT_SECRET: 'only-for-tests-0123456789-0123456789' })
  browser = await Browser.launch()
})
afterEach(() => browser.clear())
after(async () => {
  await browser?.close()
  await server?.stop()
})

/** @param {string} user @param {string} page @param {string} role */
function tokenFor(user, page, role) {
  return server.token('--user', user, '--page', page, '--role', role)
}

for (const kind of ['rich', 'text']) {
  test(`who may only read a ${kind} page sees it live and cannot change it`, async () => {
    const page = `read ${kind}`
    const ada = await browser.person('Ada', '#7e22ce')
    await ada.opens(server.origin, { page, kind, token: tokenFor('ada', page, 'edit') })
    await ada.editor.click()
    await ada.types('by ada')
    await ada.sees('saved')

    const eve = await browser.person('Eve', '#1d4ed8')
    await eve.opens(server.origin, { page, kind, token: tokenFor('eve', page, 'view') })
    await eve.sees('read-only')
    await eve.reads(['by ada'])
    await eve.caretOf('Ada').waitFor()
    await ada.meets(['Ada (you)', 'Eve'])
    assert.equal(await eve.editor.getAttribute('aria-readonly'), 'true')
    await eve.editor.click()
    await eve.types('eve was here')
    await eve.page.keyboard.press('Backspace')
    await eve.page.getByRole('button', { name: 'Undo', exact: true }).click({ force: true })
    await ada.goesToEnd()
    await ada.types('!')
    await eve.reads(['by ada!'])
    assert.equal(await eve.page.locator('#indicator').getAttribute('data-kind'), 'read-only')
    await eve.screenshot(`read-only-${kind}`)
    await ada.reads(['by ada!'])
  })
}

test('without a valid token the page says why it stays empty', async () => {
  const mallory = await browser.person('Mallory', '#b91c1c')
  await mallory.page.goto(`${server.origin}/?page=closed&token=nonsense`)
  await mallory.sees('refused')
  await mallory.page.locator('#notice', { hasText: 'valid token' }).waitFor()
  await mallory.screenshot('refused')
  await mallory.page.getByRole('button', { name: 'Try again' }).click()
  await mallory.sees('refused')
})

test('a token for another page does not open this one', async () => {
  const mallory = await browser.person('Mallory', '#b91c1c')
  await mallory.page.goto(`${server.origin}/?${new URLSearchParams({ page: 'closed', token: tokenFor('mallory', 'open', 'edit') })}`)
  await mallory.sees('refused')
  await mallory.page.locator('#notice', { hasText: 'no access' }).waitFor()
})

test('the link to share does not carry the token', async () => {
  const ada = await browser.person('Ada', '#7e22ce')
  await ada.opens(server.origin, { page: 'shared', token: tokenFor('ada', 'shared', 'edit') })
  await ada.page.context().grantPermissions(['clipboard-read', 'clipboard-write'])
  await ada.page.locator('#share').click()
  await ada.page.locator('#share-label', { hasText: 'Copied' }).waitFor()
  assert.equal(await ada.page.evaluate(() => navigator.clipboard.readText()), `${server.origin}/?page=shared`)
})
