// The content of a document in one form, whichever version of Yjs holds it.

import * as Y13 from 'yjs'
import * as Y14 from '@y/y'

/** The root types that the tests write to. */
export const ROOTS = ['text', 'map', 'array', 'xml']

/** What a document holds: text and XML as strings, map and array as JSON. */
export function contentOf (doc) {
  return doc instanceof Y14.Doc ? contentOf14(doc) : contentOf13(doc)
}

function contentOf13 (doc) {
  return {
    text: doc.getText('text').toString(),
    map: doc.getMap('map').toJSON(),
    array: doc.getArray('array').toJSON(),
    xml: doc.getXmlFragment('xml').toArray().map(xml13).join('')
  }
}

function xml13 (node) {
  // Yjs 14 puts text straight into an element.
  if (typeof node === 'string') return node
  if (node instanceof Y13.XmlText) return node.toString()
  return markup(node.nodeName, node.getAttributes(), node.toArray().map(xml13).join(''))
}

function contentOf14 (doc) {
  return {
    text: doc.get('text').toArray().filter(piece => typeof piece === 'string').join(''),
    map: doc.get('map').toJSON().attrs ?? {},
    array: doc.get('array').toJSON().children ?? [],
    xml: (doc.get('xml').toJSON().children ?? []).map(xml14).join('')
  }
}

function xml14 (node) {
  if (typeof node === 'string') return node
  const inner = (node.children ?? []).map(xml14).join('')
  return node.name ? markup(node.name, node.attrs ?? {}, inner) : inner
}

function markup (name, attributes, inner) {
  const written = Object.entries(attributes).sort().map(([key, value]) => ` ${key}="${value}"`).join('')
  return `<${name.toLowerCase()}${written}>${inner}</${name.toLowerCase()}>`
}

/** Whether an encoded document has everything that its parts need. */
export const isComplete = update => !hasGaps(documentOf(update))

/** The content of an encoded document. */
export function contentOfUpdate (update) {
  const doc = documentOf(update)
  if (hasGaps(doc)) throw new Error('the update has gaps')
  return contentOf13(doc)
}

const hasGaps = doc => Boolean(doc.store.pendingStructs || doc.store.pendingDs)

function documentOf (update) {
  const doc = new Y13.Doc()
  if (update) Y13.applyUpdate(doc, update)
  return doc
}
