// What the address of this page asks for: which page, which kind of text, with which token.

/** @typedef {'rich' | 'text'} Kind */

/** @param {string} search the query part of an address */
export function readAddress(search) {
  const query = new URLSearchParams(search)
  /** @type {Kind} */
  const kind = query.get('kind') === 'text' ? 'text' : 'rich'
  return { page: query.get('page') || 'welcome', kind, token: query.get('token') }
}

/** Says why a page cannot have this name, or nothing when it can. @param {string} page */
export function faultOfPageName(page) {
  if (page === '') return 'A page needs a name.'
  if (new TextEncoder().encode(page).length > 255) return 'This name is too long: 255 bytes is the most.'
  if (/\p{Cc}/u.test(page)) return 'A name cannot contain control characters.'
  if (page.split('/').some((part) => part === '.' || part === '..')) return 'No part of a name can be “.” or “..”.'
  if (!page.isWellFormed()) return 'This name is not valid text.'
  return null
}

/** The page's name as the path of its socket; slashes stay. @param {string} page */
export function socketPath(page) {
  return page.split('/').map(encodeURIComponent).join('/')
}

/** Where this page is, without the slash at its end: a proxy may have put the server under a path. @param {string} href */
export function home(href) {
  return new URL('.', href).href.replace(/\/$/, '')
}

/** A link for others. It never carries the token, which is a personal right. @param {string} home @param {string} page @param {Kind} kind */
export function shareLink(home, page, kind) {
  const query = new URLSearchParams({ page })
  if (kind === 'text') query.set('kind', kind)
  return `${home}/?${query}`
}

/**
 * Whether the token itself says that its owner may only read this page, so that the page need not pretend otherwise. Only the
 * server decides; a token that says nothing about this page counts as one that may edit.
 * @param {string | null} token @param {string} page
 */
export function tokenOnlyReads(token, page) {
  const claims = claimsOf(token)
  const pages = claims?.pages
  if (!pages || typeof pages !== 'object' || claims.role === 'admin') return false
  const fits = (/** @type {string} */ pattern) =>
    pattern === page || (pattern.endsWith('*') && page.startsWith(pattern.slice(0, -1)))
  const grants = Object.entries(pages)
    .filter(([pattern]) => fits(pattern))
    .map(([, role]) => role)
  return grants.length > 0 && grants.every((role) => role === 'view' || role === 'comment')
}

/** @param {string | null} token */
function claimsOf(token) {
  try {
    const part = (token ?? '').split('.')[1].replaceAll('-', '+').replaceAll('_', '/')
    const bytes = Uint8Array.from(atob(part), (character) => character.charCodeAt(0))
    return JSON.parse(new TextDecoder().decode(bytes))
  } catch {
    return null // not a JSON web token: the server will judge it
  }
}
