// Whole contents that clients without Yjs save, with the public Socket.IO client, beside a Yjs client in the same page.

import { after, describe, test } from 'node:test'
import assert from 'node:assert/strict'

import { io } from './support/asyncapi.js'
import * as Y from 'yjs'
import { WebsocketProvider } from 'y-websocket-3.1.0'
import WebSocket from 'ws'

import { freshPage, serverForFile } from './support/suite.js'
import { JWT_SECRET, tokenFor } from './support/tokens.js'
import { until } from './support/wait.js'

const server = serverForFile({ env: { JWT_SECRET } })

const ends = []
after(() => ends.forEach(end => end()))

/** A client that shows what it is sent and saves what it has, as an application without Yjs does. */
async function connect (user, pageId, transports, role = 'edit', joins = 'join_page') {
  const auth = { token: tokenFor(user, { '*': role }) }
  const socket = io(server().url, { transports, auth, forceNew: true, reconnection: false })
  ends.push(() => socket.disconnect())
  const client = { socket, shown: null, told: [], updates: [] }
  socket.on('document_update', told => client.updates.push(told))
  socket.on('page_updated', ({ content, version, userId }) => {
    client.shown = content
    client.told.push({ content, version, userId })
  })
  await new Promise((resolve, reject) => socket.on('connect', resolve).on('connect_error', reject))
  client.ask = (event, body) => socket.timeout(10_000).emitWithAck(event, body)
  client.save = async content => {
    client.shown = content
    const answer = await client.ask('page_updated', { pageId, content })
    assert.equal(answer.ok, true, JSON.stringify(answer))
    return answer.seq
  }
  assert.equal((await client.ask(joins, pageId)).ok, true)
  return client
}

/** What the text of a page says now. */
const page = async pageId => (await server().content(pageId)).content

/** A Yjs client of the same page. */
async function yjs (user, pageId) {
  const doc = new Y.Doc()
  const params = { token: tokenFor(user, { '*': 'edit' }) }
  const provider = new WebsocketProvider(server().url.replace('http', 'ws') + '/ws', pageId, doc, { params, WebSocketPolyfill: WebSocket, disableBc: true })
  ends.push(() => {
    provider.destroy()
    doc.destroy()
  })
  await until(`${user} is in sync`, () => provider.synced)
  return doc
}

for (const transports of [['websocket'], ['polling'], ['polling', 'websocket']]) {
  describe(transports.join(' and then '), () => {
    test('a save of much that has nothing in common with the page makes nobody else wait', async () => {
      const words = seed => Array.from({ length: 50_000 }, (_, n) => ((n * 2_654_435_761 + seed) >>> 0).toString(36).padStart(7, '0')).join(' ')
      const [pageId, other] = [freshPage(), freshPage()]
      const [ada, ben, cleo] = [
        await connect('ada', pageId, transports), await connect('ben', pageId, transports), await connect('cleo', other, transports)
      ]
      const first = words(1)
      assert.ok(first.length >= 399_000)
      await ada.save(first)
      await until('Ben is sent it', () => ben.shown === first)
      let isSaved = false
      const second = words(987_654_321)
      const save = ada.ask('page_updated', { pageId, content: second }).finally(() => { isSaved = true })
      // Who points and types in the same page, and who comes and goes at another one: how often each is answered meanwhile.
      const works = async does => {
        for (let answers = 0; ; answers++) {
          assert.equal((await does()).ok, true)
          if (isSaved) return answers
        }
      }
      const counts = await Promise.all([
        works(() => ben.ask('cursor_move', { pageId, cursor: { anchor: 1, head: 1 } })),
        works(() => ben.ask('typing_start', { pageId })),
        works(() => cleo.ask('join_page', { pageId: other }))
      ])
      assert.equal((await save).ok, true)
      assert.equal(await page(pageId), second)
      assert.ok(counts.every(count => count >= 5), `answers while it was saved: ${counts}`)
    })

    test('saves of several clients and a Yjs client end in one content', async () => {
      const pageId = freshPage()
      const ada = await connect('ada', pageId, transports)
      const seq = await ada.save('one two three')
      assert.ok(seq > 0)
      const ben = await connect('ben', pageId, transports)
      await until('Ben is sent what there is', () => ben.shown === 'one two three')
      assert.equal(ben.told[0].userId, null)
      const cleo = await yjs('cleo', pageId)
      const text = cleo.getText('content')
      assert.equal(text.toString(), 'one two three')
      // All at once, each from what it has.
      text.insert(text.length, ' four')
      await Promise.all([ada.save('zero one two three'), ben.save('one TWO three')])
      const expected = 'zero one TWO three four'
      await until('all have all of it', () => [ada.shown, ben.shown, text.toString()].every(content => content === expected))
      assert.ok(ben.told.some(told => told.userId === 'ada'), 'it is said whose save it was')
    })

    test('what Yjs clients write is sent edit after edit, to who has saved and to who has not', async () => {
      const pageId = freshPage()
      const [ada, ben] = [await connect('ada', pageId, transports), await connect('ben', pageId, transports)]
      await ada.save('saved')
      await until('Ben has it', () => ben.shown === 'saved')
      const text = (await yjs('cleo', pageId)).getText('content')
      for (let n = 0; n < 4; n++) {
        text.insert(0, `${n} `)
        await until(() => `both have ${text}: ${ada.shown}, ${ben.shown}`, () => [ada, ben].every(({ shown }) => shown === text.toString()))
      }
    })

    test('Yjs clients are sent as much of a save as has changed, however large the page is', async () => {
      const words = Array.from({ length: 12_000 }, (_, n) => `word${n}`)
      const forms = [
        ['text', ' ', words => words],
        ['html', '', words => words.map(word => `<p>${word} and <strong>more</strong></p>`)]
      ]
      for (const [format, between, written] of forms) {
        const pageId = freshPage()
        const ada = await connect('ada', pageId, transports)
        const save = async words => {
          const answer = await ada.ask('page_updated', { pageId, format, content: written(words).join(between) })
          assert.equal(answer.ok, true, JSON.stringify(answer))
        }
        await save(words)
        const doc = await yjs('cleo', pageId)
        const sent = []
        doc.on('update', (update, origin) => origin !== null && sent.push(update.length))
        const text = () => format === 'text' ? doc.getText('content').toString() : doc.getXmlFragment('default').toString()
        await save(words.toSpliced(6_000, 1, 'another'))
        await until('Cleo has it', () => text().includes('another'))
        await save(words.toSpliced(6_000, 1))
        await until('Cleo has it', () => !text().includes('another'))
        assert.ok(sent.reduce((sum, size) => sum + size) < 300, `${format}: ${sent} bytes`)
      }
    })

    test('who loads again sees the merge, and an empty page says nothing', async () => {
      const pageId = freshPage()
      const ada = await connect('ada', pageId, transports)
      assert.equal(ada.told.length, 0)
      await ada.save('first')
      await ada.save('first and second')
      const again = await connect('ada', pageId, transports)
      await until('it is sent the merge', () => again.shown === 'first and second')
    })

    test('rich text is merged paragraph by paragraph', async () => {
      const pageId = freshPage()
      const [ada, ben] = [await connect('ada', pageId, transports), await connect('ben', pageId, transports)]
      const html = content => ({ pageId, content, format: 'html' })
      assert.equal((await ada.ask('page_updated', html('<p>one</p>'))).ok, true)
      await until('Ben has it', () => ben.shown === '<p>one</p>')
      const answers = await Promise.all([
        ada.ask('page_updated', html('<h2>head</h2><p>one</p>')),
        ben.ask('page_updated', html('<p>one</p><ul><li><p>item</p></li></ul>'))
      ])
      assert.deepEqual(answers.map(answer => answer.ok), [true, true], JSON.stringify(answers))
      const expected = '<h2>head</h2><p>one</p><ul><li><p>item</p></li></ul>'
      await until('both have both', () => ada.shown === expected && ben.shown === expected)
      const doc = await yjs('cleo', pageId)
      const nodes = doc.getXmlFragment('default').toArray().map(node => node.nodeName)
      assert.deepEqual(nodes, ['heading', 'paragraph', 'bulletList'], 'as an editor with Collaboration reads it')
    })

    test('a reader saves nothing', async () => {
      const pageId = freshPage()
      const eve = await connect('eve', pageId, transports, 'view')
      const answer = await eve.ask('page_updated', { pageId, content: 'x' })
      assert.equal(answer.error.code, 'read_only')
    })
  })
}

// What clients do that were written for a server that only passed contents on. Each case is told of in full at its test: no such client says
// which copy it has changed.
for (const transports of [['websocket'], ['polling'], ['polling', 'websocket']]) {
  describe(`clients as they were written, ${transports.join(' and then ')}`, () => {
    /** Two clients that show the same content. */
    async function pair (content) {
      const pageId = freshPage()
      const ada = await connect('ada', pageId, transports)
      await ada.save(content)
      const ben = await connect('ben', pageId, transports)
      await until('Ben shows it', () => ben.shown === content)
      return { pageId, ada, ben }
    }

    const both = (clients, expected) => until(
      () => `all show ${expected}: ${clients.map(({ shown }) => shown).join(' | ')}`, () => clients.every(({ shown }) => shown === expected)
    )

    test('who shows nothing of others while typing loses nothing of theirs, for fifty saves', async () => {
      const { pageId, ada, ben } = await pair('begin middle end')
      // As in "Update UI (if not currently editing)": Ben goes on from what he has written himself.
      let mine = 'begin middle end'
      for (let n = 0; n < 50; n++) {
        mine += ` b${n}`
        const saved = ben.ask('page_updated', { pageId, content: mine })
        if (n % 5 === 0) await ada.save(`a${n} ${ada.shown}`)
        assert.equal((await saved).ok, true)
      }
      const words = (await page(pageId)).split(' ')
      const expected = ['begin', 'middle', 'end', ...Array.from({ length: 50 }, (_, n) => `b${n}`), ...Array.from({ length: 10 }, (_, n) => `a${5 * n}`)]
      assert.deepEqual(words.toSorted(), expected.toSorted(), 'each word once')
      await both([ada, ben], words.join(' '))
    })

    test('a version that a client counts by itself is no base, also where the page had that number', async () => {
      const { pageId, ada, ben } = await pair('one two three')
      const seqs = [await ada.save('one two three four'), await ada.save('one two three four five')]
      await both([ada, ben], 'one two three four five')
      // Every small number was one of the page, which then had less than Ben shows.
      for (let version = 0; version <= Math.max(...seqs) + 2; version++) {
        const content = `${ben.shown} v${version}`
        const answer = await ben.ask('page_updated', { pageId, content, version })
        assert.equal(answer.ok, true, JSON.stringify(answer))
        await until('Ada shows it', () => ada.shown === content)
        ben.shown = content
      }
      // And what is taken away is gone, whatever the number.
      assert.equal((await ben.ask('page_updated', { pageId, content: ben.shown.replace('two ', ''), version: 1 })).ok, true)
      await until('it is gone', () => ada.shown === ben.shown.replace('two ', ''))
    })

    test('a tab that comes back with its old copy adds what it wrote, and brings back nothing that is deleted', async () => {
      const { pageId, ada, ben } = await pair('one two three four five')
      await ben.save('one two three four five b1')
      await both([ada, ben], 'one two three four five b1')
      ben.socket.disconnect()
      await ada.save('one three four five b1 a1')
      await ada.save('one three FOUR five b1 a1')
      const again = await connect('ben', pageId, transports)
      await until('the tab is sent the page', () => again.told.length > 0)
      // It does not show that: it was being typed in.
      await again.save('one two three four five b1 b2')
      await both([ada, again], await page(pageId))
      const words = ada.shown.split(' ')
      for (const word of ['one', 'three', 'FOUR', 'five', 'b1', 'b2', 'a1']) assert.equal(words.filter(one => one === word).length, 1, ada.shown)
      for (const word of ['two', 'four']) assert.ok(!words.includes(word), ada.shown)
    })

    test('one save sent three times is made once, whatever others write between', async () => {
      const { pageId, ada, ben } = await pair('one two')
      const content = 'one two three'
      for (let n = 0; n < 3; n++) {
        assert.equal((await ben.ask('page_updated', { pageId, content })).ok, true)
        await ada.save(`a${n} ${await page(pageId)}`)
      }
      assert.deepEqual(await Promise.all([1, 2, 3].map(async () => (await ben.ask('page_updated', { pageId, content })).ok)), [true, true, true])
      await both([ada, ben], 'a2 a1 a0 one two three')
    })

    test('what was written into something that is deleted meanwhile stays, and the rest of it goes', async () => {
      const { pageId, ada, ben } = await pair('first. some words to go. last.')
      const [deleted, written] = await Promise.all([
        ada.ask('page_updated', { pageId, content: 'first. last.' }),
        ben.ask('page_updated', { pageId, content: 'first. some words NEW to go. last.' })
      ])
      assert.deepEqual([deleted.ok, written.ok], [true, true])
      const content = await until('the page has both', async () => {
        const content = await page(pageId)
        return content.includes('NEW') && !content.includes('some') && content
      })
      assert.match(content, /^first\. ?NEW ?last\.$/)
      await both([ada, ben], content)
    })

    test('whose save came out as it is hears nothing of it, and who listens by either name hears it in that one', async () => {
      const { pageId, ada, ben } = await pair('one')
      const channel = await connect('cleo', pageId, transports, 'edit', 'join_channel')
      const before = ada.told.length
      const seq = await ada.save('one two')
      await until('Ben hears it', () => ben.told.some(({ content, version, userId }) => content === 'one two' && version === seq && userId === 'ada'))
      const heard = await until('the channel hears it', () => channel.updates.find(({ content }) => content === 'one two'))
      assert.deepEqual([heard.pageId, heard.version, heard.userId], [pageId, seq, 'ada'])
      assert.equal(channel.told.length, 0)
      assert.equal(ada.told.length, before)
      assert.equal(ben.updates.length, 0)
    })

    test('a base that nobody knows changes nothing, and one that is named counts before what is shown', async () => {
      const { pageId, ada, ben } = await pair('one two')
      const version = ben.told.at(-1).version
      await ada.save('one two three')
      await both([ada, ben], 'one two three')
      for (const baseVersion of [version + 1_000, 0]) {
        const refused = await ben.ask('page_updated', { pageId, content: 'nothing', baseVersion })
        assert.deepEqual([refused.ok, refused.error?.code], [false, 'conflict'], `${baseVersion}`)
      }
      assert.equal(await page(pageId), 'one two three')
      assert.equal((await ben.ask('page_updated', { pageId, content: 'two', baseVersion: version })).ok, true)
      await both([ada, ben], 'two three')
    })

    test('the content follows behind the answer to a join, before anything but who is there', async () => {
      const { pageId } = await pair('one')
      const socket = io(server().url, { transports, auth: { token: tokenFor('dora', { '*': 'view' }) }, forceNew: true, reconnection: false })
      ends.push(() => socket.disconnect())
      const told = []
      socket.onAny(event => told.push(event))
      socket.emit('join_page', pageId)
      await until('the content is there', () => told.includes('page_updated'))
      assert.ok(told.includes('joined_page'), told.join())
      const between = told.slice(told.indexOf('joined_page') + 1, told.indexOf('page_updated'))
      assert.deepEqual(between.filter(event => event !== 'viewers_updated'), [], told.join())
    })

    test('a content of another form than that of the page is a conflict and changes nothing', async () => {
      const { pageId, ada } = await pair('one')
      for (const [content, format] of [['<p>one</p>', 'html'], [{ type: 'doc', content: [] }, 'prosemirror'], [{ type: 'doc', content: [] }, undefined]]) {
        const answer = await ada.ask('page_updated', { pageId, content, format })
        assert.equal(answer.error?.code, 'conflict', JSON.stringify([content, answer]))
      }
      assert.equal(await page(pageId), 'one')
    })

    test('more versions ago than are kept, nothing that others wrote goes', async () => {
      const { pageId, ada, ben } = await pair('one two three')
      for (let n = 0; n < 80; n++) await ada.save(`a${n} ${ada.shown}`)
      ben.shown = null
      assert.equal((await ben.ask('page_updated', { pageId, content: 'one two three ben' })).ok, true)
      const words = (await page(pageId)).split(' ')
      for (let n = 0; n < 80; n++) assert.equal(words.filter(word => word === `a${n}`).length, 1, `a${n} in ${words}`)
      for (const word of ['one', 'two', 'three', 'ben']) assert.equal(words.filter(one => one === word).length, 1, `${word} in ${words}`)
    })

    /** What a client does by itself when its server was away: the same socket connects again, and the page is joined again. */
    async function returned ({ socket }, pageId) {
      const told = []
      socket.on('page_updated', ({ content }) => told.push(content))
      socket.connect()
      await new Promise((resolve, reject) => socket.once('connect', resolve).once('connect_error', reject))
      assert.equal((await socket.timeout(10_000).emitWithAck('join_page', pageId)).ok, true)
      return until('it is sent the page', () => told.at(-1))
    }

    const wordsOf = async pageId => (await page(pageId)).split(' ').filter(word => word !== '').toSorted()

    test('a tab that comes back after the server was killed adds and takes away what it did, and nothing of others', async () => {
      const { pageId, ada, ben } = await pair('one two three')
      const version = ben.told.at(-1).version
      ben.socket.io.engine.close()
      for (const word of ['and', 'more', 'of', 'Ada']) await ada.save(`${ada.shown} ${word}`)
      await server().restart()
      assert.equal(await returned(ben, pageId), 'one two three and more of Ada')
      // It does not show that: it was being typed in.
      await ben.save('one three ben')
      assert.deepEqual(await wordsOf(pageId), ['one', 'three', 'ben', 'and', 'more', 'of', 'Ada'].toSorted())
      // A version of before is also known to a client that names it.
      const named = await ben.ask('page_updated', { pageId, content: 'one two', baseVersion: version })
      assert.equal(named.ok, true, JSON.stringify(named))
      assert.deepEqual(await wordsOf(pageId), ['one', 'ben', 'and', 'more', 'of', 'Ada'].toSorted())
    })

    test('after the server was killed nothing goes on account of a copy that is older than what is kept', async () => {
      const { pageId, ada, ben } = await pair('one two three')
      ben.socket.io.engine.close()
      for (let n = 0; n < 80; n++) await ada.save(`a${n} ${ada.shown}`)
      await server().restart()
      await returned(ben, pageId)
      await ben.save('one three ben')
      const expected = ['one', 'two', 'three', 'ben', ...Array.from({ length: 80 }, (_, n) => `a${n}`)]
      assert.deepEqual(await wordsOf(pageId), expected.toSorted(), 'each word once')
    })

    test('who loads a page after a restart takes away what was written last', async () => {
      const { pageId, ada } = await pair('one')
      await ada.save('one two')
      await ada.save('one two three')
      await server().restart()
      const cleo = await connect('cleo', pageId, transports)
      await until('it is sent the page', () => cleo.shown === 'one two three')
      await cleo.save('one two')
      assert.equal(await page(pageId), 'one two')
    })

    test('a tab that comes back when all others have gone deletes nothing of theirs', async () => {
      const { pageId, ada, ben } = await pair('one two three')
      ben.socket.disconnect()
      await ada.save('one two three and more of Ada')
      ada.socket.disconnect()
      await until('nobody is there', async () => (await (await server().api(`/api/pages/${pageId}`)).json()).connections === 0)
      const again = await connect('ben', pageId, transports)
      await until('the tab is sent the page', () => again.told.length > 0)
      await again.save('one two three ben')
      const words = (await page(pageId)).split(' ')
      for (const word of ['one', 'two', 'three', 'ben', 'and', 'more', 'of', 'Ada']) assert.equal(words.filter(one => one === word).length, 1, words.join(' '))
    })
  })
}
