// The dialog that opens another page, and the button that copies a link to this one.

import { faultOfPageName, home, shareLink } from './address.js'
import { byId } from './elements.js'

/** @param {ReturnType<typeof import('./address.js').readAddress>} address */
export function preparePageDialog({ page, kind, token }) {
  const dialog = /** @type {HTMLDialogElement} */ (byId('page-dialog'))
  const form = /** @type {HTMLFormElement} */ (byId('page-form'))
  const input = /** @type {HTMLInputElement} */ (byId('page-input'))
  const tokenInput = /** @type {HTMLInputElement} */ (byId('token-input'))
  byId('page-button').addEventListener('click', () => {
    input.value = page
    for (const choice of form.querySelectorAll('input')) {
      if (choice.type === 'radio') choice.checked = choice.value === kind
    }
    dialog.showModal()
    input.select()
  })
  input.addEventListener('input', () => input.setCustomValidity(faultOfPageName(input.value) ?? ''))
  dialog.querySelector('[data-close]')?.addEventListener('click', () => dialog.close())
  tokenInput.disabled = token === null
  tokenInput.value = token ?? ''
}

/** @param {ReturnType<typeof import('./address.js').readAddress>} address */
export function prepareShareButton({ page, kind }) {
  const label = byId('share-label')
  const words = label.textContent
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer
  byId('share').addEventListener('click', async () => {
    const link = shareLink(home(location.href), page, kind)
    const copied = await copy(link)
    byId('announcement').textContent = copied ? 'Link copied.' : ''
    if (!copied) prompt('Copy this link:', link)
    else label.textContent = 'Copied'
    clearTimeout(timer)
    timer = setTimeout(() => (label.textContent = words), 2_000)
  })
}

/** The clipboard is there only on secure origins, which a server in a local network is not. @param {string} text */
export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text)
    return true
  } catch {
    return false
  }
}
