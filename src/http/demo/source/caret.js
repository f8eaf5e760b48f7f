// How another person's caret looks, in both editors.

/** @param {{ name: string, color: string }} user */
export function caretElement(user) {
  const caret = document.createElement('span')
  caret.className = 'caret'
  caret.style.setProperty('--person', user.color)
  const label = document.createElement('span')
  label.className = 'caret-label'
  label.textContent = user.name
  caret.append(label)
  return caret
}

/** Attributes of the text that another person has selected. @param {{ color: string }} user */
export function selectionAttributes(user) {
  return { class: 'selected-by-other', style: `--person: ${user.color}` }
}
