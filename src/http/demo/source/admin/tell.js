// What the page tells whoever looks at it: a question before something is done, and how that went.

import { byId } from '../elements.js'
import { ApiError, sentence } from './api.js'
import { say } from './dom.js'

/** @typedef {import('./dom.js').Sentence} Sentence */

const SHOWN_MS = 8_000
/** @type {ReturnType<typeof setTimeout> | undefined} */
let timer

/** Shows a sentence, and has it read. @param {string | Sentence} text @param {'good' | 'bad'} kind */
export function notice(text, kind = 'good') {
  const box = byId('notice')
  box.dataset.kind = kind
  say(byId('notice-text'), text)
  box.hidden = false
  announce(String(text))
  clearTimeout(timer)
  // What went wrong stays until somebody has seen it.
  if (kind === 'good') timer = setTimeout(() => (box.hidden = true), SHOWN_MS)
}

/** @param {string} text */
export function announce(text) {
  stayReachable()
  const region = byId('announcement')
  // The same sentence is read again only if the region was empty in between.
  region.textContent = ''
  setTimeout(() => (region.textContent = text), 50)
}

/** Puts what is told where it can be reached and heard: behind an open dialog it could not. */
function stayReachable() {
  const place = openDialog() ?? document.body
  for (const id of ['notice', 'announcement']) {
    const told = byId(id)
    if (told.parentElement !== place) place.append(told)
  }
}

/** The dialog in front, if there is one. */
function openDialog() {
  return [...document.querySelectorAll('dialog')].findLast((dialog) => dialog.open)
}

export function prepareNotice() {
  byId('notice-close').addEventListener('click', () => {
    byId('notice').hidden = true
    const place = openDialog()?.querySelector('h2') ?? byId('main')
    place.focus()
  })
  for (const dialog of document.querySelectorAll('dialog')) dialog.addEventListener('close', stayReachable)
}

/** Takes the answer to the question that is asked now. @type {((isYes: boolean) => void) | null} */
let answer = null

export function prepareQuestion() {
  const dialog = /** @type {HTMLDialogElement} */ (byId('confirm'))
  dialog.addEventListener('close', () => {
    // The browser tells of an end a little later, when the next question may be there already.
    if (dialog.open) return
    answer?.(dialog.returnValue === 'yes')
    answer = null
  })
}

/** Asks before something is done. @param {{ title: string | Sentence, text: string, yes: string }} question @returns {Promise<boolean>} */
export function confirmed({ title, text, yes }) {
  const dialog = /** @type {HTMLDialogElement} */ (byId('confirm'))
  // What was asked before and not answered is not to be done.
  answer?.(false)
  say(byId('confirm-title'), title)
  say(byId('confirm-text'), text)
  say(byId('confirm-yes'), yes)
  dialog.returnValue = 'no'
  dialog.showModal()
  return new Promise((resolve) => (answer = resolve))
}

/**
 * Does something and tells how it went; whether it was done.
 * @param {() => Promise<string | Sentence>} work gives the sentence to tell
 */
export async function attempt(work) {
  try {
    notice(await work())
    return true
  } catch (error) {
    if (!(error instanceof ApiError)) throw error
    notice(`That was not done. ${sentence(error)}`, 'bad')
    return false
  }
}
