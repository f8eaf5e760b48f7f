// What a document of Yjs holds down to its structs, written so that two documents are equal exactly when their writings are.

import * as Y from 'yjs'

/** A plain value with its type, so that `5n` and `5`, `-0` and `0` are written differently. Strings as UTF-8 can carry them. */
function written (value) {
  if (typeof value === 'string') return JSON.stringify(value.toWellFormed())
  if (typeof value === 'bigint') return `${value}n`
  if (Object.is(value, -0)) return '-0'
  if (value instanceof Uint8Array) return `bytes(${Buffer.from(value).toString('hex')})`
  if (Array.isArray(value)) return `[${value.map(written).join()}]`
  if (value !== null && typeof value === 'object') {
    return `{${Object.entries(value).map(([key, inner]) => `${written(key)}:${written(inner)}`).join()}}`
  }
  return String(value)
}

/** A value that travels as JSON: its text says all of it, lone halves of an emoji as well. */
const json = value => JSON.stringify(value)

/** Each tick of an item's content. */
function ticks (content, isKept) {
  switch (content.constructor.name) {
    case 'ContentString': {
      const text = content.str.toWellFormed()
      return Array.from({ length: text.length }, (_, index) => JSON.stringify(text[index]))
    }
    case 'ContentAny': return content.arr.map(written)
    case 'ContentJSON': return content.arr.map(value => `json ${json(value)}`)
    case 'ContentEmbed': return [`embed ${json(content.embed)}`]
    case 'ContentFormat': return [`format ${content.key}=${json(content.value)}`]
    case 'ContentBinary': return [`binary ${Buffer.from(content.content).toString('hex')}`]
    case 'ContentDoc': return [`doc ${content.doc.guid} ${written(content.opts)}`]
    case 'ContentType': return [typeWritten(content.type, isKept)]
    case 'ContentDeleted': return Array(content.len).fill('gone')
    default: throw new Error(`content of kind ${content.constructor.name}`)
  }
}

function itemWritten (item, isKept) {
  const content = item.deleted && !isKept ? Array(item.length).fill('') : ticks(item.content, isKept)
  // Undoing splits deleted text as well, and Yjs destroys a pair it splits, in that replica only.
  const told = tick => item.deleted ? tick.replace(/\\ud[89a-f]../, '\ufffd') : tick
  return content.map((tick, index) => `${item.id.client}.${item.id.clock + index}${item.deleted ? ' deleted' : ''} ${told(tick)}`)
}

/** A type: all its structs in order, deleted ones too, and per key the chain of its values from the newest on. */
function typeWritten (type, isKept) {
  const list = []
  for (let item = type._start; item; item = item.right) list.push(...itemWritten(item, isKept))
  const keys = [...type._map.keys()].sort().map(key => {
    const chain = []
    for (let item = type._map.get(key); item; item = item.left) chain.push(...itemWritten(item, isKept))
    return `${JSON.stringify(key)}: ${chain.join(' < ')}`
  })
  const name = type.nodeName ?? type.hookName ?? ''
  return `${type.constructor.name} ${name} (\n${[...list, ...keys].join('\n')}\n)`
}

const ROOTS = {
  text: doc => doc.getText('text'),
  halves: doc => doc.getText('halves'),
  map: doc => doc.getMap('map'),
  array: doc => doc.getArray('array'),
  xml: doc => doc.getXmlFragment('xml'),
  values: doc => doc.getMap('values'),
  list: doc => doc.getArray('list')
}

/**
 * Everything of a document: state vector, deleted ranges, and each root with all its structs; of a document that collects no garbage
 * also what was deleted.
 */
export function documentWritten (doc) {
  const stateVector = [...Y.decodeStateVector(Y.encodeStateVector(doc))].sort((a, b) => a[0] - b[0])
  const deleted = [...Y.createDeleteSetFromStructStore(doc.store).clients].sort((a, b) => a[0] - b[0])
    .map(([client, ranges]) => `${client}: ${ranges.map(({ clock, len }) => `${clock}+${len}`)}`)
  return [
    `clocks ${stateVector.map(pair => pair.join(':')).join(' ')}`,
    `deleted ${deleted.join(' ')}`,
    ...Object.entries(ROOTS).map(([name, root]) => `${name} = ${typeWritten(root(doc), !doc.gc)}`)
  ].join('\n')
}

/**
 * Applies an update without what Yjs does by itself afterwards: on remote edits it deletes formats that say nothing, as edits of
 * its own.
 */
export function applyQuietly (doc, update) {
  doc.transact(transaction => {
    Y.applyUpdate(doc, update)
    transaction.local = true
  })
}

/** A document of these updates, which must leave no gap. */
export const documentOf = (...updates) => documentFrom(updates)

/** The same; `gc` says whether what was deleted is collected. */
export function documentFrom (updates, gc = true) {
  const doc = new Y.Doc({ guid: 'page', gc })
  for (const update of updates) applyQuietly(doc, update)
  if (doc.store.pendingStructs || doc.store.pendingDs) throw new Error('the updates have gaps')
  return doc
}

/** Whether JSON can say all of a value. */
function isSayable (value) {
  if (value === null || typeof value === 'string' || typeof value === 'boolean') return true
  if (typeof value === 'number') return Number.isFinite(value) && !Object.is(value, -0)
  if (Array.isArray(value)) return value.every(isSayable)
  return typeof value === 'object' && !(value instanceof Uint8Array) && !(value instanceof Y.Doc) && Object.values(value).every(isSayable)
}

/** Whether the text of XML says all of it: no hooks, no embeds, and no formats that are more than a tag with its attributes. */
function isMarkup (node) {
  if (node instanceof Y.XmlHook) return false
  if (node instanceof Y.XmlFragment) return node.toArray().every(isMarkup)
  const isTag = value => value === true || (typeof value === 'object' && Object.values(value).every(inner => typeof inner === 'string'))
  return node.toDelta().every(({ insert, attributes = {} }) => typeof insert === 'string' && Object.values(attributes).every(isTag))
}

/** The roots that JSON can say, as `toJSON` gives them. */
export function sayable (doc) {
  const said = Object.entries(ROOTS)
    .filter(([name, root]) => name !== 'xml' || isMarkup(root(doc)))
    .map(([name, root]) => [name, root(doc).toJSON()])
    .filter(([, value]) => isSayable(value))
  // Half a character is written as an escape, alone; over HTTP it is U+FFFD.
  return JSON.parse(JSON.stringify(Object.fromEntries(said)).replace(/\\ud[89a-f][0-9a-f]{2}/g, '\ufffd'))
}

/**
 * Whether Yjs has written a struct whose right neighbour stands before its left one, within one run of one client (an undo does that):
 * its own replicas then differ in order, depending on what they merge at once.
 */
export function isTwisted (updates) {
  const items = new Map()
  for (const update of updates) {
    for (const { id, length, origin, rightOrigin } of Y.decodeUpdate(update).structs) {
      if (!items.has(id.client)) items.set(id.client, new Map())
      items.get(id.client).set(id.clock, { length, origin, rightOrigin })
    }
  }
  for (const [client, structs] of items) {
    const runs = new Map()
    let run = 0
    for (const [clock, { length, origin }] of [...structs].sort(([a], [b]) => a - b)) {
      if (origin?.client !== client || origin.clock !== clock - 1) run++
      for (let at = clock; at < clock + length; at++) runs.set(at, run)
    }
    for (const { origin, rightOrigin } of structs.values()) {
      const areOfClient = origin?.client === client && rightOrigin?.client === client
      if (areOfClient && rightOrigin.clock <= origin.clock && runs.get(origin.clock) === runs.get(rightOrigin.clock)) return true
    }
  }
  return false
}
