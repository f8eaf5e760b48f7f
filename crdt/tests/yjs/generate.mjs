// Writes sessions.json: edits of several Yjs clients that hear of each other now and then, and what Yjs makes of them.
// Run by hand with the npm package yjs 13 at hand: `node generate.mjs > sessions.json`.
import * as Y from 'yjs'

let state = 1
const random = bound => {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0
  return Math.floor((state / 2 ** 32) * bound)
}
const pick = list => list[random(list.length)]
const words = ['a', 'b ', 'word', 'é', '日本', '😀', 'a😀b', 'line\n', 'longer text with spaces ']

const nested = () => pick([
  () => new Y.Text(pick(words)),
  () => Y.Array.from([1, 'two', null]),
  () => new Y.Map([['x', true]]),
])()
const value = () => pick([null, true, 1.5, 42, -7, 2 ** 40, 'text', '😀', [1, ['x']], { k: 1 }])

function editText (text) {
  const at = random(text.length + 1)
  const rest = text.length - at
  switch (random(9)) {
    case 0: case 1: case 2: if (rest > 0) return text.delete(at, 1 + random(Math.min(rest, 8))); break
    case 3: if (rest > 0) return text.format(at, 1 + random(rest), { [pick(['bold', 'em'])]: pick([true, null]) }); break
    case 4: return text.insertEmbed(at, { image: 'x' })
    case 5: return text.insert(at, pick(words), { bold: true })
  }
  text.insert(at, pick(words))
}

function edit (doc) {
  const text = doc.getText('text')
  const map = doc.getMap('map')
  const array = doc.getArray('array')
  const xml = doc.getXmlFragment('xml')
  switch (random(12)) {
    case 0: case 1: case 2: case 3: return editText(text)
    case 4: case 5: {
      const key = pick(['a', 'b', 'a long key'])
      const held = map.get(key)
      if (random(6) === 0) return map.delete(key)
      if (held instanceof Y.Text && random(3)) return editText(held)
      if (held instanceof Y.Map && random(3)) return held.set('x', nested())
      if (held instanceof Y.Array && random(3)) return held.push([nested()])
      return map.set(key, random(2) ? nested() : value())
    }
    case 6: case 7: {
      const at = random(array.length + 1)
      if (at < array.length && random(3) === 0) return array.delete(at, 1)
      return array.insert(at, [random(3) ? value() : nested(), value()])
    }
    default: {
      if (xml.length === 0 || random(4) === 0) {
        const paragraph = new Y.XmlElement('paragraph')
        paragraph.insert(0, [new Y.XmlText(pick(words))])
        return xml.insert(random(xml.length + 1), [paragraph])
      }
      const at = random(xml.length)
      if (random(7) === 0) return xml.delete(at, 1)
      const element = xml.get(at)
      if (random(4) === 0) return element.setAttribute(pick(['level', 'align']), pick(words))
      const inner = element.get(0)
      if (inner instanceof Y.XmlText) {
        if (inner.length && random(4) === 0) return inner.format(0, 1 + random(inner.length), { bold: true })
        if (inner.length && random(4) === 0) return inner.delete(random(inner.length), 1)
        return inner.insert(random(inner.length + 1), pick(words))
      }
    }
  }
}

const hex = bytes => Buffer.from(bytes).toString('hex')
const sessions = []
for (let index = 0; index < 60; index++) {
  const docs = Array.from({ length: 1 + random(4) }, (_, client) => {
    const doc = new Y.Doc()
    doc.clientID = 100 + client * 7
    return doc
  })
  const undo = docs.map(doc => new Y.UndoManager(doc.getText('text'), { captureTimeout: 0 }))
  const updates = []
  const heard = docs.map(() => 0)
  docs.forEach((doc, client) => doc.on('update', (update, origin) => origin !== 'heard' && updates.push({ client, update })))
  for (let turn = 0; turn < 40; turn++) {
    const client = random(docs.length)
    if (random(3) === 0) {
      for (; heard[client] < updates.length; heard[client]++) Y.applyUpdate(docs[client], updates[heard[client]].update, 'heard')
    }
    if (random(10) === 0) undo[client].undo()
    else docs[client].transact(() => { edit(docs[client]); if (random(2)) edit(docs[client]) })
  }
  const all = new Y.Doc()
  for (const { update } of updates) Y.applyUpdate(all, update)
  // A replica that was told in pieces, and one that is told everything at once, offer what they have as a whole.
  const known = Y.encodeStateVector(docs[0])
  sessions.push({
    updates: updates.map(({ update }) => hex(update)),
    state: hex(Y.encodeStateAsUpdate(all)),
    diff: hex(Y.encodeStateAsUpdate(all, known)),
    known: hex(known),
    text: all.getText('text').toString(),
    map: all.getMap('map').toJSON(),
    array: all.getArray('array').toJSON(),
    xml: all.getXmlFragment('xml').toString(),
  })
}
process.stdout.write('[\n' + sessions.map(session => JSON.stringify(session)).join(',\n') + '\n]\n')
