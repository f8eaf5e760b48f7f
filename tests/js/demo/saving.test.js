// What the indicator says is true: through saving, a pulled plug, a server that does not answer, and closing the tab.

import assert from 'node:assert/strict'
import { afterEach, beforeEach, test } from 'node:test'

import { Browser } from './support/browser.js'
import { Server } from './support/server.js'

/** @type {Server} */
let server
/** @type {Browser} */
let browser

beforeEach(async () => {
  server = await Server.start()
  browser = await Browser.launch()
})
afterEach(async () => {
  try {
    await browser?.clear()
  } finally {
    await browser?.close()
    await server?.stop()
  }
})

test('an edit is being saved and then saved', async () => {
  const ada = await (await browser.person('Ada', '#7e22ce')).opens(server.origin, { page: 'saving' })
  await ada.editor.click()
  await ada.watchesIndicator()
  await ada.types('x')
  await ada.sees('saved')
  assert.deepEqual(await ada.indicatorHistory(), ['saving', 'saved'])
  assert.equal(await ada.page.getByRole('status').textContent(), '', 'nothing is announced for that')
})

for (const kind of ['rich', 'text']) {
  test(`nothing in a ${kind} page is lost when the plug is pulled, neither before nor after`, async () => {
    const query = { page: `plug ${kind}`, kind }
    const ada = await (await browser.person('Ada', '#7e22ce')).opens(server.origin, query)
    const bob = await (await browser.person('Bob', '#a14a07')).opens(server.origin, query)
    await ada.editor.click()
    await ada.types('saved before\n')
    await ada.sees('saved')
    await ada.types('in the middle of ')
    await server.kill()
    await Promise.all([ada.sees('offline'), bob.sees('offline')])
    await ada.types('typing, and offline')
    await ada.screenshot(`offline-${kind}`)
    assert.match((await ada.page.getByRole('status').textContent()) ?? '', /^No connection\./)
    assert.equal(await ada.page.locator('#indicator').getAttribute('data-kind'), 'offline')
    await bob.editor.click()
    await bob.page.keyboard.press('Control+Home')
    await bob.types('bob was offline too; ')

    await server.start()
    await Promise.all([ada.sees('saved'), bob.sees('saved')])
    assert.equal(await ada.page.getByRole('status').textContent(), 'Everything is saved again.')
    const lines = ['bob was offline too; saved before', 'in the middle of typing, and offline']
    await Promise.all([ada.reads(lines), bob.reads(lines)])

    // What is said to be saved is there after the next pulled plug, without anybody who remembers it.
    await server.kill()
    await browser.clear()
    await server.start()
    const cleo = await (await browser.person('Cleo', '#0f766e')).opens(server.origin, query)
    await cleo.reads(lines)
  })
}

test('while the server does not answer, nothing is said to be saved', async () => {
  const ada = await (await browser.person('Ada', '#7e22ce')).opens(server.origin, { page: 'stopped' })
  await ada.editor.click()
  await ada.types('a')
  await ada.sees('saved')
  await ada.watchesIndicator()
  server.signal('SIGSTOP')
  await ada.types('b')
  await ada.sees('late')
  assert.deepEqual(await ada.indicatorHistory(), ['saving', 'late'])
  server.signal('SIGCONT')
  await ada.sees('saved')
})

test('closing the tab warns of changes that are not saved, and only of those', async () => {
  const ada = await (await browser.person('Ada', '#7e22ce')).opens(server.origin, { page: 'closing' })
  await ada.editor.click()
  await ada.types('saved')
  await ada.sees('saved')
  const warnings = /** @type {string[]} */ ([])
  ada.page.on('dialog', async (dialog) => {
    warnings.push(dialog.type())
    await dialog.accept()
  })
  await ada.page.reload()
  await ada.sees('saved')
  assert.deepEqual(warnings, [])

  await server.kill()
  await ada.sees('offline')
  await ada.editor.click()
  await ada.types('not saved')
  const closed = ada.page.waitForEvent('close')
  await ada.page.close({ runBeforeUnload: true })
  await closed
  assert.deepEqual(warnings, ['beforeunload'])
})
