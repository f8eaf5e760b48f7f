// The carets of others in a CodeMirror editor, and one's own for them, as relative positions in awareness.

import { Annotation } from '@codemirror/state'
import { Decoration, ViewPlugin, WidgetType } from '@codemirror/view'
import * as Y from 'yjs'

import { caretElement, selectionAttributes } from './caret.js'

class CaretWidget extends WidgetType {
  /** @param {{ name: string, color: string }} user */
  constructor(user) {
    super()
    this.user = user
  }

  /** @param {CaretWidget} other */
  eq(other) {
    return other.user.name === this.user.name && other.user.color === this.user.color
  }

  toDOM() {
    return caretElement(this.user)
  }
}

const othersMoved = Annotation.define()

/** @param {Y.Text} text @param {import('y-protocols/awareness').Awareness} awareness */
export function plainCarets(text, awareness) {
  return ViewPlugin.define(
    (view) => {
      const redraw = (/** @type {Record<'added' | 'updated' | 'removed', number[]>} */ { added, updated, removed }) => {
        const others = [...added, ...updated, ...removed].some((client) => client !== awareness.clientID)
        if (others) view.dispatch({ annotations: othersMoved.of(true) })
      }
      awareness.on('change', redraw)
      return {
        decorations: othersCarets(view, text, awareness),
        update(update) {
          if (update.docChanged || update.selectionSet || update.focusChanged) publish(update.view, text, awareness)
          const moved = update.transactions.some((transaction) => transaction.annotation(othersMoved))
          if (moved || update.docChanged) this.decorations = othersCarets(update.view, text, awareness)
        },
        destroy() {
          awareness.off('change', redraw)
        },
      }
    },
    { decorations: (plugin) => plugin.decorations },
  )
}

/** @param {import('@codemirror/view').EditorView} view @param {Y.Text} text @param {import('y-protocols/awareness').Awareness} awareness */
function publish(view, text, awareness) {
  const { anchor, head } = view.state.selection.main
  const at = (/** @type {number} */ index) => Y.relativePositionToJSON(Y.createRelativePositionFromTypeIndex(text, index))
  const cursor = view.hasFocus ? { anchor: at(anchor), head: at(head) } : null
  const before = awareness.getLocalState()?.cursor ?? null
  if (JSON.stringify(before) !== JSON.stringify(cursor)) awareness.setLocalStateField('cursor', cursor)
}

/** @param {import('@codemirror/view').EditorView} view @param {Y.Text} text @param {import('y-protocols/awareness').Awareness} awareness */
function othersCarets(view, text, awareness) {
  const decorations = []
  const length = view.state.doc.length
  for (const [client, { user, cursor }] of awareness.getStates()) {
    if (client === awareness.clientID || !cursor) continue
    const anchor = indexOf(cursor.anchor, text)
    const head = indexOf(cursor.head, text)
    if (anchor === null || head === null) continue
    const from = Math.min(anchor, head, length)
    const to = Math.min(Math.max(anchor, head), length)
    if (from < to) decorations.push(Decoration.mark({ attributes: selectionAttributes(user) }).range(from, to))
    // Behind what is typed at the same place, unless the selection runs backwards.
    const side = head < anchor ? -1 : 1
    decorations.push(Decoration.widget({ widget: new CaretWidget(user), side }).range(Math.min(head, length)))
  }
  return Decoration.set(decorations, true)
}

/** @param {any} position @param {Y.Text} text */
function indexOf(position, text) {
  const absolute = Y.createAbsolutePositionFromRelativePosition(
    Y.createRelativePositionFromJSON(position),
    /** @type {Y.Doc} */ (text.doc),
  )
  return absolute?.type === text ? absolute.index : null
}
