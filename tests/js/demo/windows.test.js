// What somebody sees in the first minutes: windows with names of their own, what the server knows, and how to connect an editor.

import assert from 'node:assert/strict'
import { after, afterEach, before, test } from 'node:test'

import { Browser } from './support/browser.js'
import { Server } from './support/server.js'

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

/** @param {import('./support/browser.js').Person} person */
const ownName = (person) => person.page.locator('#name-input').inputValue()
/** @param {import('./support/browser.js').Person} person */
const ownColor = (person) => person.page.locator('#swatches input:checked').inputValue()

test('windows of one browser have names and colours of their own, and keep them when they are loaded again', async () => {
  const first = await (await browser.person('Ada', '#7e22ce')).opens(server.origin, { page: 'windows' })
  const second = await (await browser.window(first)).opens(server.origin, { page: 'windows' })
  const third = await (await browser.window(first)).opens(server.origin, { page: 'windows' })
  const all = [first, second, third]
  assert.deepEqual(await Promise.all(all.map(ownName)), ['Ada', 'Ada 2', 'Ada 3'])
  assert.equal(new Set(await Promise.all(all.map(ownColor))).size, 3)
  assert.deepEqual((await others(first)).sort(), ['Ada 2', 'Ada 3'])
  await first.editor.click()
  await first.types('x')
  await second.caretOf('Ada').waitFor()

  await second.page.reload()
  await second.sees('saved')
  assert.equal(await ownName(second), 'Ada 2')
  // A name is free again with its window.
  await second.page.close()
  const fourth = await (await browser.window(first)).opens(server.origin, { page: 'windows' })
  assert.equal(await ownName(fourth), 'Ada 2')
})

/** The others in whatever order their ids have. @param {import('./support/browser.js').Person} person */
async function others(person) {
  const names = person.page.locator('#others li span:last-child')
  await names.nth(2).waitFor({ state: 'attached' })
  return (await names.allTextContents()).slice(1)
}

test('a guest who has chosen no name has another one in each window', async () => {
  const first = await browser.person('Ada', '#7e22ce')
  await first.page.context().addInitScript(() => localStorage.removeItem('pageroom.user'))
  await first.opens(server.origin, { page: 'guests' })
  const second = await (await browser.window(first)).opens(server.origin, { page: 'guests' })
  const [one, other] = [await ownName(first), await ownName(second)]
  assert.notEqual(one, other)
  await second.page.reload()
  await second.sees('saved')
  assert.equal(await ownName(second), other)

  // A name that is chosen is for this window, and for those that come.
  await first.page.locator('#people-button').click()
  await first.page.getByLabel('Your name').fill('Ada')
  await first.page.getByRole('button', { name: 'Done' }).click()
  await second.meets([`${other} (you)`, 'Ada'])
})

test('what the server knows of the page is shown: the last stored edit, people, size', async () => {
  const ada = await (await browser.person('Ada', '#7e22ce')).opens(server.origin, { page: 'known' })
  const known = ada.page.locator('#known')
  await known.filter({ hasText: 'Nothing is stored yet' }).waitFor()
  await ada.editor.click()
  await ada.types('word')
  await known.filter({ hasText: /^Saved as edit [1-9]\d* · 1 person · \d+ B$/ }).waitFor()
  const bob = await (await browser.person('Bob', '#a14a07')).opens(server.origin, { page: 'known' })
  await known.filter({ hasText: '2 people' }).waitFor()
  await bob.goesToEnd()
  await bob.types('s')
  await bob.sees('saved')
  const told = /** @type {{ seq: number }} */ (await (await fetch(`${server.origin}/api/pages/known`)).json())
  await known.filter({ hasText: `Saved as edit ${told.seq} ·` }).waitFor()
  await ada.screenshot('known')
  await server.kill()
  await ada.sees('offline')
  await known.filter({ hasText: /^$/ }).waitFor({ state: 'attached' })
  await server.start()
  await known.filter({ hasText: `Saved as edit ${told.seq} ·` }).waitFor()
})

test('the panel says how to connect an editor to this very page, and copies a line', async () => {
  const ada = await (await browser.person('Ada', '#7e22ce')).opens(server.origin, { page: 'team/notes', kind: 'text' })
  await ada.page.context().grantPermissions(['clipboard-read', 'clipboard-write'])
  await ada.page.getByRole('button', { name: 'Connect' }).click()
  const address = `${server.origin.replace('http', 'ws')}/ws`
  assert.equal(await ada.page.locator('#connect-address').textContent(), `${address}/team/notes`)
  assert.equal(await ada.page.locator('#connect-field').textContent(), "ydoc.getText('text')")
  await ada.page.getByRole('button', { name: 'Copy the line for y-websocket' }).click()
  await ada.page.locator('#connect-lines button', { hasText: 'Copied' }).waitFor()
  assert.equal(await ada.page.evaluate(() => navigator.clipboard.readText()), `new WebsocketProvider('${address}', 'team/notes', ydoc)`)
})
