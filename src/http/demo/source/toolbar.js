// A row of buttons that is one stop for the Tab key; the arrow keys move inside it.

import { icon } from './icons.js'

/**
 * @typedef {object} Control
 * @property {string} label
 * @property {string} icon
 * @property {string} keys with `Mod` for Ctrl or Command
 * @property {() => void} run
 * @property {() => boolean} [active] makes it a toggle button
 * @property {() => boolean} enabled
 */

const IS_APPLE = /Mac|iP(hone|ad|od)/.test(navigator.platform)

/** @param {HTMLElement} toolbar @param {Control[][]} groups */
export function fillToolbar(toolbar, groups) {
  /** @type {{ button: HTMLButtonElement, control: Control }[]} */
  const entries = []
  for (const group of groups) {
    const element = document.createElement('div')
    element.className = 'group'
    for (const control of group) {
      const button = makeButton(control)
      entries.push({ button, control })
      element.append(button)
    }
    toolbar.append(element)
  }
  const buttons = entries.map((entry) => entry.button)
  focusable(buttons, buttons[0])

  const refresh = () => {
    for (const { button, control } of entries) {
      // Not `disabled`, which would drop the focus of somebody who has just pressed it.
      button.setAttribute('aria-disabled', String(!control.enabled()))
      if (control.active) button.setAttribute('aria-pressed', String(control.active()))
    }
  }
  const onKey = (/** @type {KeyboardEvent} */ event) => moveFocus(event, buttons)
  toolbar.addEventListener('keydown', onKey)
  refresh()
  return {
    refresh,
    clear() {
      toolbar.removeEventListener('keydown', onKey)
      toolbar.replaceChildren()
    },
  }
}

/** @param {Control} control */
function makeButton(control) {
  const button = document.createElement('button')
  button.type = 'button'
  button.setAttribute('aria-label', control.label)
  button.title = `${control.label} (${readableKeys(control.keys)})`
  button.setAttribute('aria-keyshortcuts', control.keys.replace('Mod', IS_APPLE ? 'Meta' : 'Control').replaceAll('-', '+'))
  button.append(icon(control.icon))
  // The text keeps the focus, and on a phone the keyboard stays up.
  button.addEventListener('mousedown', (event) => event.preventDefault())
  button.addEventListener('click', () => control.enabled() && control.run())
  return button
}

/** @param {string} keys */
function readableKeys(keys) {
  const parts = keys.split('-').map((key) => (IS_APPLE ? ({ Mod: '⌘', Shift: '⇧', Alt: '⌥' })[key] : { Mod: 'Ctrl' }[key]) ?? key)
  return parts.join(IS_APPLE ? '' : '+')
}

/** @param {HTMLButtonElement[]} buttons @param {HTMLButtonElement} chosen */
function focusable(buttons, chosen) {
  for (const button of buttons) button.tabIndex = button === chosen ? 0 : -1
}

/** @param {KeyboardEvent} event @param {HTMLButtonElement[]} buttons */
function moveFocus(event, buttons) {
  const at = buttons.findIndex((button) => button === document.activeElement)
  const last = buttons.length - 1
  const targets = /** @type {Record<string, number>} */ ({
    ArrowRight: at === last ? 0 : at + 1,
    ArrowLeft: at <= 0 ? last : at - 1,
    Home: 0,
    End: last,
  })
  const target = buttons[targets[event.key]]
  if (!target) return
  event.preventDefault()
  focusable(buttons, target)
  target.focus()
}
