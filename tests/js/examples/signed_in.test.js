// People who are signed in at the backend of examples/ edit with its tokens; a token that has ended is replaced.

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { after, afterEach, before, test } from 'node:test'

import { Server, freePort } from '../support/server.js'
import { JWT_SECRET, tokenFor } from '../support/tokens.js'
import { until } from '../support/wait.js'
import { Applications } from './support/applications.js'
import { Browser } from './support/windows.js'

const BACKEND = join(import.meta.dirname, '../../../examples/backend/server.js')
const TIPTAP = { text: '.tiptap', line: 'p', caret: '.collaboration-carets__label' }
const PAGES = { 'team/*': 'edit' }
/** How much the server forgives a token that has ended. */
const LEEWAY_SECONDS = 15

let server, applications, browser, backend

before(async () => {
  const port = await freePort()
  server = await Server.start({ env: { JWT_SECRET, CORS_ORIGIN: `http://127.0.0.1:${port}` } })
  applications = await Applications.serve(['tiptap'], server, port)
  applications.backend = await freePort()
  backend = spawn(process.execPath, [BACKEND], {
    env: { PATH: process.env.PATH, PORT: String(applications.backend), JWT_SECRET },
    stdio: ['ignore', 'pipe', 'inherit']
  })
  await once(backend.stdout, 'data')
  browser = await Browser.launch()
})
afterEach(() => browser.clear())
after(async () => {
  await browser?.close()
  backend?.kill()
  await applications?.close()
  await server?.dispose()
})

const url = () => `${applications.origin}/tiptap/signed-in.html`

async function signsIn (window, name) {
  await window.page.goto(url())
  await window.page.getByLabel('Your name').fill(name)
  await window.page.getByRole('button', { name: 'Sign in' }).click()
  await window.is('connected')
}

/** Has the backend's first answers replaced by tokens that end so many seconds from now; gives how often it was asked. */
async function givesFirst (window, ...seconds) {
  let asked = 0
  await window.page.route('**/api/token', route => {
    const expiresIn = seconds[asked++]
    if (expiresIn === undefined) return route.continue()
    return route.fulfill({ json: { token: tokenFor('Bob', PAGES, { expiresIn }), name: 'Bob' } })
  })
  return () => asked
}

test('who is signed in edits under the name that the backend knows, and nobody else does', async () => {
  const ada = await browser.window(TIPTAP)
  await signsIn(ada, 'Ada')
  await ada.types('Signed')
  const bob = await browser.window(TIPTAP)
  await signsIn(bob, 'Bob')
  await bob.reads(['Signed'])
  await bob.types('!')
  await ada.reads(['Signed!'])
  await ada.seesCaretOf('Bob')

  const stranger = await browser.window(TIPTAP)
  await stranger.page.goto(url())
  await until('the stranger is told', async () => (await stranger.page.locator('#status').textContent()) === 'not signed in')
  assert.deepEqual(await stranger.lines(), [])
  assert.equal((await server.api('/api/pages/team%2Fnotes', { token: '' })).status, 401)
})

test('a token that has ended is refused, and the page fetches another', async () => {
  const bob = await browser.window(TIPTAP)
  await signsIn(bob, 'Bob')
  const asked = await givesFirst(bob, -60)
  await bob.page.reload()
  await until('the page asks again', () => asked() === 2)
  await bob.is('connected')
  await bob.types(' again')
  await until('it is on the server', async () => JSON.stringify(await server.content('team/notes')).includes(' again'))
})

test('a token that ends while somebody edits is replaced', async () => {
  const bob = await browser.window(TIPTAP)
  await signsIn(bob, 'Bob')
  const asked = await givesFirst(bob, 2 - LEEWAY_SECONDS)
  await bob.page.reload()
  await bob.is('connected')
  await until('the page asks again', () => asked() === 2)
  await bob.is('connected')
  await bob.types(' and on')
  await until('it is on the server', async () => JSON.stringify(await server.content('team/notes')).includes(' and on'))
})
