// Elements made of what the server says. Text is always text: nothing here becomes markup.

import { breakable, visible } from './words.js'

/**
 * @typedef {Node | string | null | undefined | false} Child
 * @typedef {Record<string, string | number | boolean | null | undefined | ((event: any) => void)>} Attributes
 */

/**
 * An element. Attributes that are functions listen to the event that they are named after; those that are false or nothing are left out.
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag @param {Attributes} [attributes] @param {...Child} children
 * @returns {HTMLElementTagNameMap[K]}
 */
export function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag)
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue
    if (typeof value === 'function') element.addEventListener(name.slice(2), value)
    else element.setAttribute(name, value === true ? '' : String(value))
  }
  for (const child of children) {
    if (child !== null && child !== undefined && child !== false) element.append(child)
  }
  return element
}

/** Says something in an element, and touches it only when it says something else. @param {Element} element @param {string | Sentence} words */
export function say(element, words) {
  if (element.textContent !== String(words)) element.replaceChildren(...(typeof words === 'string' ? [words] : words.parts()))
}

/** A name that others chose: shown whole, broken where it must be, and apart from the words around it. @param {string} text */
export function name(text) {
  return el('bdi', { class: 'name' }, ...breakable(visible(text)).flatMap((piece, at) => (at === 0 ? [piece] : [el('wbr'), piece])))
}

/** Words with names in them that others chose, which change nothing of the words around them. */
export class Sentence {
  #words
  #names

  /** @param {readonly string[]} words one more than there are names @param {string[]} names */
  constructor(words, names) {
    this.#words = words
    this.#names = names
  }

  /** @returns {(string | HTMLElement)[]} */
  parts() {
    return this.#words.flatMap((words, at) => (at < this.#names.length ? [words, name(this.#names[at])] : [words]))
  }

  /** What is read of it. */
  toString() {
    return this.#words.map((words, at) => words + visible(this.#names[at] ?? '')).join('')
  }
}

/** Makes a sentence of a template, whose values are names. @param {TemplateStringsArray} words @param {...string} names */
export function sentenceOf(words, ...names) {
  return new Sentence(words, names)
}
