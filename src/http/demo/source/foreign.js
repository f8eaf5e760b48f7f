// Finds what an editor's schema does not know in what has just arrived: such an editor would delete it for everybody.

import { XmlElement, XmlFragment, XmlText } from 'yjs'

/** Marks that may overlap with themselves carry a hash behind their name. */
const HASH = /--[a-zA-Z0-9+/=]{8}$/

/**
 * @param {import('yjs').Transaction} transaction
 * @param {XmlFragment} root
 * @param {import('@tiptap/pm/model').Schema} schema
 * @returns {string[]} names of unknown nodes and marks
 */
export function foreignNames(transaction, root, schema) {
  if (transaction.local) return []
  /** @type {Set<string>} */
  const names = new Set()
  const { beforeState } = transaction
  for (const type of transaction.changed.keys()) {
    if (isInside(type, root)) collect(type, schema, beforeState, names)
  }
  return [...names]
}

/** @param {import('yjs').AbstractType<any> | null} type @param {XmlFragment} root */
function isInside(type, root) {
  while (type !== null && type !== root) type = type.parent
  return type === root
}

/**
 * @param {unknown} type
 * @param {import('@tiptap/pm/model').Schema} schema
 * @param {Map<number, number>} beforeState what is older has been looked at
 * @param {Set<string>} names
 */
function collect(type, schema, beforeState, names) {
  if (type instanceof XmlText) {
    for (const { attributes = {} } of type.toDelta()) {
      for (const name of Object.keys(attributes)) {
        if (!(name.replace(HASH, '') in schema.marks)) names.add(name.replace(HASH, ''))
      }
    }
  } else if (type instanceof XmlFragment) {
    if (type instanceof XmlElement && !(type.nodeName in schema.nodes)) names.add(type.nodeName)
    for (const child of type.toArray()) {
      const id = child._item?.id
      if (id && id.clock >= (beforeState.get(id.client) ?? 0)) collect(child, schema, beforeState, names)
    }
  }
}
