// The page on a phone and on a wide screen, light and dark, for people who see it and people who hear it.

import assert from 'node:assert/strict'
import { after, afterEach, before, test } from 'node:test'

import { DARK, PHONE, accessibilityFaults } from './support/accessibility.js'
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

for (const kind of ['rich', 'text']) {
  test(`a ${kind} page is accessible, light and dark, alone and with others, with its dialogs`, async () => {
    const query = { page: `axe ${kind}`, kind }
    const ada = await (await browser.person('Ada Lovelace', '#7e22ce')).opens(server.origin, query)
    assert.deepEqual(await accessibilityFaults(ada), [], 'an empty page')
    const eve = await (await browser.person('Eve', '#1d4ed8', DARK)).opens(server.origin, query)
    await eve.editor.click()
    await eve.types(kind === 'rich' ? '# Title\n- one\ntwo\n\n> quote\n\n`code` **bold** text' : 'some\ntext')
    await ada.caretOf('Eve').waitFor()
    await ada.editor.click()
    await ada.page.keyboard.press('Control+Home')
    await eve.caretOf('Ada').waitFor()
    assert.deepEqual(await accessibilityFaults(ada), [], 'light')
    assert.deepEqual(await accessibilityFaults(eve), [], 'dark')
    await ada.screenshot(`light-${kind}`)
    await eve.screenshot(`dark-${kind}`)

    for (const [button, dialog] of [['#page-button', '#page-dialog'], ['#people-button', '#people-dialog'], ['#connect', '#connect-dialog']]) {
      for (const person of [ada, eve]) {
        await person.page.locator(button).click()
        await person.page.locator(`${dialog}[open]`).waitFor()
        assert.deepEqual(await accessibilityFaults(person), [], dialog)
        await person.screenshot(`${dialog.slice(1)}-${kind}-${person === ada ? 'light' : 'dark'}`)
        await person.page.keyboard.press('Escape')
      }
    }
  })

  test(`a ${kind} page fits a phone`, async () => {
    const query = { page: `phone ${kind}/with-a-rather-long-name-that-does-not-fit`, kind }
    const ada = await (await browser.person('Ada with a long name that goes on', '#7e22ce')).opens(server.origin, query)
    await ada.editor.click()
    await ada.types(`${'word '.repeat(30)}\n${'unbreakable'.repeat(12)}`)
    const pia = await (await browser.person('Pia', '#be185d', PHONE)).opens(server.origin, query)
    await pia.caretOf('Ada').waitFor()
    await pia.screenshot(`phone-${kind}`)
    const [content, window] = await pia.page.evaluate(() => [document.documentElement.scrollWidth, innerWidth])
    assert.equal(content, window, 'nothing makes the page wider than the screen')
    assert.equal(window, 360)
    const outside = await pia.page.evaluate(() =>
      [...document.querySelectorAll('.bar button, .bar p')].filter((element) => element.getBoundingClientRect().right > innerWidth).map((element) => element.id),
    )
    assert.deepEqual(outside, [])
    await pia.page.locator('#connect').click()
    await pia.page.locator('#connect-dialog[open]').waitFor()
    await pia.screenshot(`phone-connect-${kind}`)
    const wide = await pia.page.evaluate(() => [...document.querySelectorAll('#connect-dialog *')].filter((element) => element.getBoundingClientRect().right > innerWidth).map((element) => element.tagName))
    assert.deepEqual(wide, [], 'the lines for clients are broken where the screen ends')
    await pia.page.keyboard.press('Escape')
    assert.deepEqual(await accessibilityFaults(pia), [])
  })
}

test('the theme follows the system until somebody chooses, and the choice stays', async () => {
  const eve = await (await browser.person('Eve', '#1d4ed8', DARK)).opens(server.origin, { page: 'theme' })
  const background = () => eve.page.evaluate(() => getComputedStyle(document.body).backgroundColor)
  const pressed = (/** @type {boolean} */ yes) => eve.page.getByRole('button', { name: 'Dark theme', pressed: yes })
  const dark = await background()
  await pressed(true).waitFor()
  await eve.page.emulateMedia({ colorScheme: 'light' })
  await pressed(false).waitFor()
  const light = await background()
  assert.notEqual(light, dark)
  await eve.page.emulateMedia({ colorScheme: 'dark' })
  await pressed(true).click()
  assert.equal(await background(), light)
  await eve.page.reload()
  await eve.sees('saved')
  assert.equal(await background(), light)
})

test('nothing beside the indicator moves when its words change', async () => {
  const ada = await (await browser.person('Ada', '#7e22ce')).opens(server.origin, { page: 'still' })
  const places = () =>
    ada.page.evaluate(() => ['page-button', 'people-button', 'share', 'editor', 'toolbar'].map((id) => JSON.stringify(document.getElementById(id)?.getBoundingClientRect())))
  const before = await places()
  await server.kill()
  await ada.sees('offline')
  assert.deepEqual(await places(), before)
  await server.start()
  await ada.sees('saved')
  assert.deepEqual(await places(), before)
})
