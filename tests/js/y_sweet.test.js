// y-sweet's SDK and client: documents, tokens, and what "no local changes" means.

import { describe, test } from 'node:test'
import assert from 'node:assert/strict'

import { DocumentManager, YSweetError } from '@y-sweet/sdk'
import * as Y from 'yjs'

import { Client, PROVIDERS, converged } from './support/clients.js'
import { Server } from './support/server.js'
import { freshPage, serverForFile } from './support/suite.js'
import { JWT_SECRET, tokenFor } from './support/tokens.js'
import { until } from './support/wait.js'
import { YSweet, manager } from './support/y_sweet.js'

const VERSION = PROVIDERS.find(provider => provider.Provider === YSweet)
const server = serverForFile({ env: { JWT_SECRET } })
const backend = () => manager(server().url)

function textUpdate (text) {
  const doc = new Y.Doc()
  doc.getText('text').insert(0, text)
  return Y.encodeStateAsUpdate(doc)
}

const textOf = update => {
  const doc = new Y.Doc()
  Y.applyUpdate(doc, update)
  return doc.getText('text').toString()
}

describe('the SDK', () => {
  test('creates, fills and reads documents', async () => {
    const { docId } = await backend().createDoc()
    assert.match(docId, /^[\w-]{20,}$/)
    assert.equal(textOf(await backend().getDocAsUpdate(docId)), '')
    await backend().updateDoc(docId, textUpdate('by the backend'))
    assert.equal(textOf(await backend().getDocAsUpdate(docId)), 'by the backend')
    assert.equal((await server().content(docId)).text, 'by the backend')
    const filled = await backend().createDocWithContent(textUpdate('from the start'))
    assert.equal(textOf(await backend().getDocAsUpdate(filled.docId)), 'from the start')
    assert.deepEqual(await backend().createDoc(docId), { docId }, 'it is there already')
    assert.equal(textOf(await backend().getDocAsUpdate(docId)), 'by the backend')
    assert.deepEqual(await backend().checkStore(), { ok: true })
    assert.deepEqual(await (await fetch(`${server().url}/ready`)).json(), { ok: true })
  })

  test('gives tokens for one document, to read or to write', async () => {
    const page = freshPage('tokens')
    const full = await backend().getOrCreateDocAndToken(page, { userId: 'ada' })
    assert.equal(full.url, `ws://127.0.0.1:${server().port}/d/${page}/ws`)
    assert.equal(full.baseUrl, `${server().url}/d/${page}`)
    assert.deepEqual([full.docId, full.authorization], [page, 'full'])
    assert.equal(JSON.parse(Buffer.from(full.token.split('.')[1], 'base64url')).sub, 'ada')
    const reading = await backend().getClientToken(page, { authorization: 'read-only' })
    assert.equal(reading.authorization, 'read-only')
    const ask = (token, path, init) => server().api(path, { token, ...init })
    const update = { method: 'POST', body: textUpdate('x') }
    assert.equal((await ask(full.token, `/d/${page}/update`, update)).status, 200)
    assert.equal((await ask(reading.token, `/d/${page}/update`, update)).status, 403)
    assert.equal((await ask(reading.token, `/d/${page}/as-update`)).status, 200)
    assert.equal((await ask(full.token, '/d/another/as-update')).status, 403)
    assert.equal((await ask('', `/d/${page}/as-update`)).status, 401)
    assert.equal((await ask(full.token, `/d/${page}/update`, { method: 'POST', body: new Uint8Array([9, 9]) })).status, 422)
  })

  test('nobody but the backend gets tokens', async () => {
    for (const token of [tokenFor('eve', { '*': 'admin' }), 'nonsense', '']) {
      const own = new DocumentManager(`ys://${token ? `${token}@` : ''}127.0.0.1:${server().port}`)
      for (const asking of [() => own.createDoc(), () => own.getClientToken('page'), () => own.checkStore()]) {
        await assert.rejects(asking, YSweetError)
      }
    }
    await assert.rejects(() => backend().getClientToken('team/*'), YSweetError, 'a pattern is not a document')
  })
})

describe('the client', () => {
  test('whoever may only read sees and changes nothing, and is never told that it did', async () => {
    const page = freshPage('reader')
    const ada = await new Client(server(), page, { version: VERSION }).whenSynced()
    const reading = await backend().getClientToken(page, { authorization: 'read-only' })
    const eve = await new Client(server(), page, { version: VERSION, params: { token: reading.token } }).whenSynced()
    ada.insertText(0, 'by Ada')
    await until('Eve sees it', () => eve.text === 'by Ada')
    eve.insertText(0, 'by Eve ')
    ada.insertText(ada.textLength, ', again')
    await until('Eve sees that too', () => eve.text.endsWith(', again'))
    await until('Ada has no local changes', () => !ada.provider.hasLocalChanges)
    assert.equal(ada.text, 'by Ada, again')
    assert.equal(eve.provider.hasLocalChanges, true)
    assert.equal((await server().content(page)).text, 'by Ada, again')
  })

  test('a token that ends is replaced without anybody noticing', async () => {
    const page = freshPage('expiring')
    const ada = new Client(server(), page, { version: VERSION, connect: false })
    const expired = tokenFor('ada', { [page]: 'edit' }, { expiresIn: -60 })
    ada.provider.clientToken = { ...await backend().getClientToken(page), token: expired }
    ada.insertText(0, 'written meanwhile')
    ada.online()
    await ada.whenSynced()
    await until('stored', () => !ada.provider.hasLocalChanges)
    assert.notEqual(ada.provider.clientToken.token, expired)
    assert.ok(ada.closes.every(close => close.code === 4401), 'it was told why')
    assert.equal((await server().content(page)).text, 'written meanwhile')
  })

  test('no local changes means stored, also after being away', async t => {
    const own = await Server.start()
    t.after(() => own.dispose())
    const page = freshPage('durable')
    const ada = await new Client(own, page, { version: VERSION }).whenSynced()
    await until('nothing to store', () => !ada.provider.hasLocalChanges)
    for (let round = 0; round < 5; round++) {
      ada.insertText(0, `round ${round} `)
      assert.equal(ada.provider.hasLocalChanges, true)
      await until('stored', () => !ada.provider.hasLocalChanges)
      await own.kill()
      ada.insertText(0, `offline ${round} `)
      const { text } = ada
      await own.restart()
      await until('stored', () => !ada.provider.hasLocalChanges)
      await own.kill()
      await own.restart()
      assert.equal((await own.content(page)).text, text)
    }
    const ben = await new Client(own, page, { version: VERSION }).whenSynced()
    await converged([ada, ben])
  })
})
