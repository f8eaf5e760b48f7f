// Who may do what: tokens, read-only members, and refusals that a browser can see.

import { describe, test } from 'node:test'
import assert from 'node:assert/strict'

import { Client, STABLE, VERSIONS } from './support/clients.js'
import { RawClient, awareness, hex, syncStep1, syncStep2, syncUpdate, textUpdate } from './support/raw.js'
import { freshPage, serverForFile } from './support/suite.js'
import { JWT_SECRET, sign, tokenFor } from './support/tokens.js'
import { until } from './support/wait.js'

const server = serverForFile({ env: { JWT_SECRET } })

/** What the providers warn about on the console: refusals that the server put into words. */
const warnings = []
console.warn = (...words) => warnings.push(words.join(' '))

const editor = (page, user = 'ada') => ({ params: { token: tokenFor(user, { [page]: 'edit' }) } })

for (const version of VERSIONS) {
  describe(version.name, () => {
    test('a view token syncs and sees cursors; its changes are refused', async () => {
      const page = freshPage()
      const ada = await new Client(server(), page, { version, ...editor(page), presence: { user: { name: 'Ada' } } }).whenSynced()
      ada.insertText(0, 'by Ada')
      const eve = await new Client(server(), page, {
        version, params: { token: tokenFor('eve', { [page]: 'view' }) }, presence: { user: { name: 'Eve' } }
      }).whenSynced()
      await until('Eve sees the text and Ada', () => eve.text === 'by Ada' && eve.presenceOf(ada))
      await until('Ada sees Eve', () => ada.presenceOf(eve)?.user.name === 'Eve')
      eve.insertText(0, 'by Eve ')
      eve.deleteText(7, 3)
      ada.insertText(ada.textLength, ', more')
      await until('Eve still receives', () => eve.text.endsWith(', more'))
      assert.equal(ada.text, 'by Ada, more')
      assert.ok(warnings.some(warning => warning.includes(`/${page}?`) && warning.includes('read_only')), 'Eve is told why')
      assert.equal((await server().content(page)).text, 'by Ada, more')
    })

    test('no token: closed with 4401; not this page: closed with 4403', async () => {
      const page = freshPage()
      const stranger = new Client(server(), page, { version })
      await until('the stranger is told', () => stranger.closes.some(close => close?.code === 4401))
      const guest = new Client(server(), page, { version, ...editor(freshPage('other')) })
      await until('the guest is told', () => guest.closes.some(close => close?.code === 4403))
      assert.notEqual(guest.closes.find(close => close?.code === 4403).reason, '')
      assert.ok(!stranger.synced && !guest.synced)
      stranger.dispose()
      guest.dispose()
    })
  })
}

test('the newest stable provider gives up on a refusal and says so', async () => {
  const client = new Client(server(), freshPage(), { version: STABLE, connect: false })
  const closed = new Promise(resolve => client.provider.on('closed', resolve))
  client.online()
  assert.equal((await closed).code, 4401)
  assert.equal(client.provider.shouldConnect, false)
})

describe('tokens', () => {
  const page = freshPage('tokens')
  for (const [what, token, code] of [
    ['expired', () => tokenFor('ada', { [page]: 'edit' }, { expiresIn: -60 }), 4401],
    ['signed with another secret', () => tokenFor('ada', { [page]: 'edit' }, { secret: 'x'.repeat(40) }), 4401],
    ['without a user', () => sign({ pages: { [page]: 'edit' } }), 4401],
    ['unsigned', () => `${tokenFor('ada', { [page]: 'edit' }, { header: { alg: 'none' } }).split('.').slice(0, 2).join('.')}.`, 4401],
    ['of an algorithm that is not configured', () => tokenFor('ada', { [page]: 'edit' }, { header: { alg: 'HS512' } }), 4401],
    ['nonsense', () => 'abc', 4401],
    ['for other pages', () => tokenFor('ada', { 'elsewhere/*': 'edit' }), 4403],
    ['for no pages', () => sign({ sub: 'ada' }), 4403]
  ]) {
    test(`${what}: ${code}`, async () => {
      const raw = await RawClient.connect(server(), page, { params: { token: token() } })
      raw.socket.on('message', () => {})
      assert.equal((await raw.whenClosed()).code, code)
      assert.deepEqual(raw.messages.filter(message => message.kind === 'step2'), [], 'no content went out')
    })
  }

  test('a pattern grants the pages below it, and only those', async () => {
    const token = tokenFor('ada', { 'team-7/*': 'edit' })
    const ada = await new Client(server(), 'team-7/plan/one', { params: { token } }).whenSynced()
    ada.insertText(0, 'mine')
    await until('the edit is taken', async () => (await server().content('team-7/plan/one')).text === 'mine')
    const outside = new Client(server(), 'team-70/plan', { params: { token } })
    await until('outside is refused', () => outside.closes.some(close => close?.code === 4403))
    outside.dispose()
  })

  test('the command line mints tokens that the server takes', async () => {
    const { stdout } = await server().command('token', '--user', 'ada', '--page', page, '--role', 'edit')
    const ada = await new Client(server(), page, { params: { token: stdout.trim() } }).whenSynced()
    ada.insertText(0, 'minted')
    await until('the edit is taken', async () => (await server().content(page)).text === 'minted')
  })

  test('a bearer header works as well as a query parameter', async () => {
    const headers = { authorization: `Bearer ${tokenFor('ada', { [page]: 'view' })}` }
    const raw = await RawClient.connect(server(), page, { headers })
    await raw.settle()
  })
})

describe('a read-only member on the wire', () => {
  test('updates and step 2 change nothing and are not acknowledged; awareness and step 1 work', async () => {
    const page = freshPage()
    const ada = await new Client(server(), page, editor(page)).whenSynced()
    const raw = await RawClient.connect(server(), page, { params: { token: tokenFor('eve', { [page]: 'view' }) } })
    await raw.next('step1')
    raw.send(syncStep2(textUpdate('by step 2', 7600)))
    raw.send(syncUpdate(textUpdate('by update', 7601)))
    raw.send(awareness([7600, 1, { user: { name: 'Eve' } }]))
    await until('her cursor is seen', () => ada.presenceOf(7600)?.user.name === 'Eve')
    raw.send(syncStep1(hex('00')))
    assert.deepEqual((await raw.next('step2')).body, hex('0000'))
    assert.deepEqual(raw.messages.filter(message => message.kind === 'update'), [])
    assert.equal(ada.text, '')
  })
})

describe('REST', () => {
  test('asks for a token and honours it', async () => {
    const page = freshPage()
    const ada = await new Client(server(), page, editor(page)).whenSynced()
    ada.insertText(0, 'secret')
    await until('the backend reads it', async () => (await server().content(page)).text === 'secret')
    const path = `/api/pages/${page}/content?format=json`
    assert.equal((await server().api(path, { token: null })).status, 401)
    assert.equal((await server().api(path, { token: tokenFor('eve', { other: 'edit' }) })).status, 403)
    const seen = await server().api(path, { token: tokenFor('eve', { [page]: 'view' }) })
    assert.equal((await seen.json()).text, 'secret')
  })
})

test('what was read before is read anew after an edit, and not at all by whoever may not any more', async () => {
  const page = freshPage()
  const path = `/api/pages/${page}/content?format=text`
  const write = async body => assert.equal((await server().api(path, { method: 'PUT', body })).status, 200)
  const eve = `/api/pages/${page}/permissions/eve`
  const grant = await server().api(eve, {
    method: 'PUT', body: JSON.stringify({ role: 'view' }), headers: { 'content-type': 'application/json' }
  })
  assert.ok(grant.ok)
  const read = async () => {
    const answer = await server().api(path, { token: tokenFor('eve', {}) })
    return answer.status === 200 ? answer.text() : answer.status
  }
  await write('one')
  for (let time = 0; time < 3; time++) assert.equal(await read(), 'one')
  await write('one two')
  for (let time = 0; time < 3; time++) assert.equal(await read(), 'one two')
  assert.ok((await server().api(eve, { method: 'DELETE' })).ok)
  assert.equal(await read(), 403)
  assert.ok((await server().api(`/api/pages/${page}`, { method: 'DELETE' })).ok)
  assert.equal((await server().api(path)).status, 404)
})
