// A page gets another id while every provider there is has it open: all of them follow, and no edit is lost.

import { describe, test } from 'node:test'
import assert from 'node:assert/strict'

import { Client, PROVIDERS, converged, whenStored } from './support/clients.js'
import { ADMIN_TOKEN } from './support/server.js'
import { freshPage, serverForFile } from './support/suite.js'
import { until } from './support/wait.js'

const server = serverForFile()

const authorization = { authorization: `Bearer ${ADMIN_TOKEN}` }
const address = path => `${server().url}/api/pages/${path}`
const rename = (page, pageId) => fetch(address(`${encodeURIComponent(page)}/rename`), {
  method: 'POST', headers: authorization, body: JSON.stringify({ pageId })
})

async function textOf (page) {
  const response = await fetch(address(`${encodeURIComponent(page)}/content?format=text&field=text`), { headers: authorization })
  assert.equal(response.status, 200)
  return { text: await response.text(), url: response.url }
}

describe('a page that is renamed', { concurrency: true }, () => {
  test('is followed by every provider, which goes on editing it', async () => {
    const [was, is] = [freshPage('was'), freshPage('is')]
    const clients = PROVIDERS.map(version => new Client(server(), was, { version }))
    for (const client of clients) await client.whenSynced()
    clients.forEach((client, index) => client.insertText(0, `<before ${index}>`))
    // There is a page as soon as the first of it is stored.
    await until('there is a page', async () => (await fetch(address(was), { headers: authorization })).status === 200)
    // They type while it is renamed, and are not waited for.
    const renamed = rename(was, is)
    clients.forEach((client, index) => client.insertText(0, `<during ${index}>`))
    const response = await renamed
    assert.equal(response.status, 200)
    assert.deepEqual(await response.json(), { pageId: is, formerIds: [was] })
    clients.forEach((client, index) => client.insertText(0, `<after ${index}>`))
    // One of each comes under the new id.
    const others = PROVIDERS.map(version => new Client(server(), is, { version }))
    for (const client of others) await client.whenSynced()
    others.forEach((client, index) => client.insertText(0, `<new ${index}>`))
    const content = await converged([...clients, ...others], 60_000)
    for (const when of ['before', 'during', 'after', 'new']) {
      clients.forEach((_, index) => assert.equal(content.text.split(`<${when} ${index}>`).length, 2, `${when} ${index}`))
    }
    await whenStored(server(), is, content)
    for (const client of [...clients, ...others]) client.dispose()
  })

  test('is found under its former ids by programs that follow redirects', async () => {
    const [first, second, third] = ['first', 'team/second', 'third'].map(freshPage)
    const put = page => fetch(address(`${encodeURIComponent(page)}/content?format=text&field=text`), {
      method: 'PUT', headers: authorization, body: page
    })
    assert.equal((await put(first)).status, 200)
    assert.equal((await rename(first, second)).status, 200)
    assert.deepEqual(await (await rename(second, third)).json(), { pageId: third, formerIds: [first, second].sort() })
    for (const id of [first, second]) {
      const { text, url } = await textOf(id)
      assert.equal(text, first)
      assert.equal(url, address(`${encodeURIComponent(third)}/content?format=text&field=text`))
    }
    // A body is sent again.
    assert.equal((await put(second)).status, 200)
    assert.equal((await textOf(third)).text, second)
    const back = await rename(first, first)
    assert.deepEqual(await back.json(), { pageId: first, formerIds: [second, third].sort() })
    const freed = await fetch(address(`${encodeURIComponent(first)}/former-ids/${encodeURIComponent(second)}`), {
      method: 'DELETE', headers: authorization
    })
    assert.equal(freed.status, 204)
    assert.equal((await fetch(address(encodeURIComponent(second)), { headers: authorization })).status, 404)
    const known = await fetch(address(`${encodeURIComponent(first)}/former-ids`), { headers: authorization })
    assert.deepEqual(await known.json(), { pageId: first, formerIds: [third] })
  })
})
