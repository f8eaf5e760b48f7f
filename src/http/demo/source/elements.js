// The elements of the page's markup, by id.

/** @template {HTMLElement} [T=HTMLElement] @param {string} id @returns {T} */
export function byId(id) {
  const element = document.getElementById(id)
  if (!element) throw new Error(`the page's markup has no element "${id}"`)
  return /** @type {T} */ (element)
}
