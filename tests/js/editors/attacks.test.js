// What DOMPurify is tested with, saved as the content of a page and shown in Chromium as the server gives it: nothing of it does anything.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { after, before, test } from 'node:test'

import { chromium } from 'playwright-core'
import WebSocket from 'ws'
import * as Y from 'yjs'

import { Server } from '../support/server.js'
import { until } from '../support/wait.js'
import { joined } from './support/joined.js'

// Providers look for the one of a browser.
globalThis.WebSocket ??= WebSocket

const ATTACKS = JSON.parse(readFileSync(new URL('../../attacks/dompurify.json', import.meta.url), 'utf8')).map(({ payload }) => payload)
const PAGE = 'http://127.0.0.1:9/'
const ARGUMENTS = [
  '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync'
]

let server, browser, page
/** What has run, and what was asked of others, since it was looked at last. */
let seen = []

before(async () => {
  server = await Server.start()
  browser = await chromium.launch({ executablePath: process.env.CHROMIUM_PATH ?? '/usr/bin/chromium', args: ARGUMENTS })
  page = await opened()
})
after(async () => {
  await browser?.close()
  await server?.dispose()
})

/** A page in which what runs is seen. */
async function opened () {
  const page = await browser.newPage()
  await page.exposeFunction('attacked', how => { seen.push(how) })
  await page.addInitScript(() => {
    for (const name of ['alert', 'confirm', 'prompt', 'print', 'xssed']) globalThis[name] = () => globalThis.attacked(name)
    // A link leads somewhere when somebody clicks on it: that is what it is for.
    globalThis.stay = event => {
      const link = event.target.closest?.('a[href]')
      if (link && ['http:', 'https:', 'mailto:', 'tel:'].includes(link.protocol)) event.preventDefault()
    }
    addEventListener('click', globalThis.stay)
  })
  // An image may be anywhere, and whoever shows a page may ask for it; nothing else is asked of anybody.
  await page.route('**/*', route => {
    const request = route.request()
    if (request.resourceType() === 'image') return route.abort()
    if (request.url() !== PAGE) {
      seen.push(`${request.resourceType()} ${request.url()}`)
      return route.abort()
    }
    return route.fulfill({ contentType: 'text/html', body: '<!doctype html><meta charset=utf-8><title>Shown</title><div id=shown></div>' })
  })
  await page.goto(PAGE)
  return page
}

/** Shows HTML as an application does that puts it into its page, and as a document; touches everything in it. Says what happened. */
async function happens (html, where = page) {
  seen = []
  await where.evaluate(async html => {
    const touched = async root => {
      // Images that are not there say so.
      await new Promise(resolve => setTimeout(resolve, 5))
      for (const element of root.querySelectorAll('*')) {
        element.focus?.()
        for (const type of ['mouseover', 'mouseenter', 'pointerover', 'click', 'dblclick', 'focus', 'blur', 'toggle', 'load', 'error', 'submit', 'animationend']) {
          element.dispatchEvent(new MouseEvent(type, { bubbles: true, cancelable: true }))
        }
      }
      await new Promise(resolve => setTimeout(resolve, 1))
    }
    const shown = document.querySelector('#shown')
    shown.innerHTML = html
    await touched(shown)
    // Read once more, as some editors do with what they show.
    shown.innerHTML = `${shown.innerHTML}`
    await touched(shown)
    const frame = document.createElement('iframe')
    frame.srcdoc = html
    const loaded = new Promise(resolve => { frame.onload = resolve })
    document.body.append(frame)
    await loaded
    for (const name of ['alert', 'confirm', 'prompt', 'xssed']) frame.contentWindow[name] = () => globalThis.attacked(`${name} in a frame`)
    frame.contentWindow.addEventListener('click', globalThis.stay)
    await touched(frame.contentDocument)
    frame.remove()
    shown.replaceChildren()
  }, html).catch(error => { seen.push(`it went elsewhere: ${error.message.split('\n')[0]}`) })
  return seen
}

test('these attacks are some', async () => {
  // Not all of them, and each in a page of its own, because they do something to it.
  const sample = ATTACKS.filter((_, n) => n % 5 === 0)
  let some = 0
  for (const attack of sample) {
    const own = await opened()
    some += (await happens(attack, own)).length > 0 ? 1 : 0
    await own.close()
  }
  assert.ok(some > sample.length / 4, `${some} of ${sample.length} do something as they are`)
})

test('nothing that is saved as HTML does anything where it is shown', async () => {
  for (const [n, attack] of ATTACKS.entries()) {
    const path = `/api/pages/attack-${n}/content?format=html`
    const saved = await server.api(path, { method: 'PUT', body: attack })
    assert.equal(saved.status, 200, attack)
    const answer = await server.api(path)
    // A page in which nothing was saved is none.
    const html = answer.status === 404 ? '' : await answer.text()
    assert.deepEqual(await happens(html), [], `${attack}\n${html}`)
  }
})

test('nothing that a client puts into a page does anything where it is shown', async () => {
  const { doc, leave } = await joined(server, 'attacks')
  const fragment = doc.getXmlFragment('default')
  const values = ATTACKS.filter(attack => attack.length < 500)
  doc.transact(() => {
    for (const attack of values) {
      const element = new Y.XmlElement(/<([a-z]+)/i.exec(attack)?.[1] ?? 'p')
      fragment.push([element])
      for (const name of ['href', 'src', 'srcdoc', 'style', 'onerror', 'onclick', 'formaction', 'class', 'title', 'data-x', attack.slice(0, 40)]) {
        element.setAttribute(name, name === 'href' || name === 'src' ? 'javascript:alert(1)' : attack)
      }
      const text = new Y.XmlText()
      element.push([text])
      text.insert(0, attack, { bold: true, link: { href: 'javascript:alert(1)', onclick: attack }, [attack.slice(0, 40)]: true })
    }
  })
  const end = Y.encodeStateVector(doc)
  await until('the server has it', async () => {
    const answer = await server.api('/api/pages/attacks/snapshot')
    if (answer.status !== 200) return false
    const copy = new Y.Doc()
    Y.applyUpdate(copy, new Uint8Array(await answer.arrayBuffer()))
    return Buffer.compare(Buffer.from(Y.encodeStateVector(copy)), Buffer.from(end)) === 0
  })
  const html = await (await server.api('/api/pages/attacks/content?format=html')).text()
  assert.ok(html.includes('alert(1)'), 'as text it is there')
  assert.deepEqual(await happens(html), [])
  const markdown = await (await server.api('/api/pages/attacks/content?format=markdown')).text()
  assert.ok(!/\]\(\s*javascript:/i.test(markdown), 'no link of Markdown leads there')
  leave()
})
