// Every generation of the y-websocket provider edits a page through Pageroom.

import { describe, test } from 'node:test'
import assert from 'node:assert/strict'

import { Client, PROVIDERS, converged, whenStored } from './support/clients.js'
import { freshPage, serverForFile } from './support/suite.js'
import { until } from './support/wait.js'

const server = serverForFile()

for (const version of PROVIDERS) {
  describe(version.name, () => {
    const join = (page, options) => new Client(server(), page, { version, ...options }).whenSynced()

    test('two clients see each other\'s edits and end equal', async () => {
      const page = freshPage('two')
      const [ada, ben] = await Promise.all([join(page), join(page)])
      for (let i = 0; i < 20; i++) {
        ada.insertText(0, `a${i} `)
        ben.insertText(ben.textLength, `b${i} `)
      }
      ada.setEntry('title', 'One')
      ben.setEntry('count', 2)
      ada.insertItems(0, ['x', { y: [1, null, true, 'ü'] }])
      ben.insertItems(0, [1.5])
      ada.insertElement(0, 'p', 'first', 'Hello')
      ben.insertElement(0, 'h1', 'second', 'Title')
      await until('all edits have arrived', () => [ada, ben].every(client =>
        client.textLength === 2 * (10 * 3 + 10 * 4) && client.arrayLength === 3 && client.elementCount === 2))
      const content = await converged([ada, ben])
      await whenStored(server(), page, content)
    })

    test('a late joiner gets everything, also after all have left', async () => {
      const page = freshPage('late')
      const ada = await join(page)
      ada.insertText(0, 'written before')
      ada.deleteText(0, 8)
      const ben = await join(page)
      await until('the late joiner has the text', () => ben.text === 'before')
      ada.offline()
      ben.offline()
      const cleo = await join(page)
      await until('who comes after all have left has the text', () => cleo.text === 'before')
    })

    test('edits made offline arrive on reconnecting, in both directions', async () => {
      const page = freshPage('offline')
      const [ada, ben] = await Promise.all([join(page), join(page)])
      ada.insertText(0, 'base ')
      await until('the base is shared', () => ben.text === 'base ')
      ada.offline()
      ada.insertText(0, 'offline ')
      ben.insertText(ben.textLength, 'online ')
      ben.deleteText(0, 5)
      ada.online()
      await ada.whenSynced()
      await until('both have both', () => [ada, ben].every(client => client.text === 'offline online '))
      await whenStored(server(), page, ada.content)
    })

    test('an edit made just before leaving arrives', async () => {
      const page = freshPage('last-word')
      const ben = await join(page)
      for (let i = 0; i < 20; i++) {
        const ada = await join(page, { presence: { user: { name: 'Ada' } } })
        ada.insertText(0, `word${i} `)
        ada.offline()
        await until('the last word arrives', () => ben.text.includes(`word${i} `))
        ada.dispose()
      }
    })

    test('a client that starts offline brings what it wrote', async () => {
      const page = freshPage('starts-offline')
      const ada = new Client(server(), page, { version, connect: false })
      ada.insertText(0, 'from before the first connection')
      const ben = await join(page)
      ada.online()
      await until('the other one gets it', () => ben.text === 'from before the first connection')
    })

    test('awareness travels both ways and disappears on a clean leave', async () => {
      const page = freshPage('aware')
      const ada = await join(page, { presence: { user: { name: 'Ada' } } })
      const ben = await join(page, { presence: { user: { name: 'Ben' }, cursor: { anchor: 1 } } })
      await until('Ada sees Ben', () => ada.presenceOf(ben)?.user.name === 'Ben')
      await until('Ben sees Ada', () => ben.presenceOf(ada)?.user.name === 'Ada')
      ada.awareness.setLocalStateField('cursor', { anchor: 7, head: 9 })
      await until('Ben sees Ada\'s cursor', () => ben.presenceOf(ada)?.cursor?.head === 9)
      ada.offline()
      await until('Ada is gone', () => ben.presenceOf(ada) === undefined, 1_000)
      const cleo = await join(page)
      await until('Cleo sees Ben', () => cleo.presenceOf(ben) !== undefined)
      assert.equal(cleo.presenceOf(ada), undefined)
    })

    test('presence can be cleared and shown again while connected', async () => {
      const page = freshPage('cleared')
      const ada = await join(page, { presence: { user: { name: 'Ada' } } })
      const ben = await join(page)
      await until('Ben sees Ada', () => ben.presenceOf(ada)?.user.name === 'Ada')
      ada.awareness.setLocalState(null)
      await until('Ben sees nobody', () => ben.presenceOf(ada) === undefined, 1_000)
      const cleo = await join(page)
      await until('Cleo has met Ben', () => cleo.presenceOf(ben) !== undefined)
      assert.equal(cleo.presenceOf(ada), undefined, 'a cleared presence is not shown to who comes later')
      ada.awareness.setLocalState({ user: { name: 'Ada again' } })
      await until('Ben sees Ada again', () => ben.presenceOf(ada)?.user.name === 'Ada again', 1_000)
    })

    test('page names may have slashes, spaces and letters of any script', async () => {
      for (const name of ['team/notes/2', 'my page', 'café/日本語/😀', 'a+b&c=d', '100%25 sure', 'dot.name/..x']) {
        const page = `${freshPage()}/${name}`
        const ada = await join(page)
        ada.insertText(0, name)
        const ben = await join(page)
        await until(`${page} has its text`, () => ben.text === name)
        // The client hands the name to the URL parser as it is, so "%25" in it is already an escape.
        await until('REST knows it by the same name', async () =>
          (await server().content(page.replace('%25', '%'))).text === name)
      }
    })

    test('nothing is heard of other pages', async () => {
      const page = freshPage('apart')
      const ada = await join(page, { presence: { user: { name: 'Ada' } } })
      const other = await join(`${page}/other`, { presence: { user: { name: 'Ben' } } })
      const witness = await join(page)
      ada.insertText(0, 'only here')
      await until('the witness has it', () => witness.text === 'only here' && witness.presenceOf(ada))
      await other.whenSynced()
      assert.equal(other.text, '')
      assert.equal(other.presenceOf(ada), undefined)
    })
  })
}
