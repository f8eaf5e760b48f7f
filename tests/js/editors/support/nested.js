// Text within text, which is how some editors keep their blocks.

import { XmlText } from 'yjs'

/** A text as markup: its formats as elements around it, the texts within it in their places, and nothing of what is no text. */
export function textOfNested (text) {
  return text.toDelta().map(({ insert, attributes = {} }) => {
    if (insert instanceof XmlText) return textOfNested(insert)
    if (typeof insert !== 'string') return ''
    const formats = Object.keys(attributes).sort()
    return formats.map(name => `<${name}>`).join('') + insert + formats.reverse().map(name => `</${name}>`).join('')
  }).join('')
}
