// What the indicator says: from the facts about connection and storage to words. No DOM, no clock.

/**
 * @typedef {object} Facts
 * @property {'connecting' | 'online' | 'offline'} link `online` once the server has sent what it has
 * @property {boolean} unsaved something written here is not confirmed to be stored
 * @property {boolean} late nothing has been confirmed for several seconds although something waits
 * @property {boolean} readOnly the server does not take changes from this user
 * @property {Refusal | null} refusal why there is no connection any more
 * @property {string | null} rejected why the server did not take the last change
 *
 * @typedef {object} Refusal
 * @property {string} why a sentence
 * @property {boolean} retries whether it is tried again without the user
 *
 * @typedef {object} Status
 * @property {'connecting' | 'saving' | 'saved' | 'late' | 'offline' | 'read-only' | 'refused'} kind
 * @property {string} label a word or two
 * @property {string | null} notice a sentence for what needs an explanation
 * @property {boolean} action whether the user is offered to try again
 */

/** @param {Facts} facts @returns {Status} */
export function statusOf({ link, unsaved, late, readOnly, refusal, rejected }) {
  if (refusal) {
    const kept = unsaved ? ' Your last changes are not saved: copy them before you leave.' : ''
    return { kind: 'refused', label: 'Not connected', notice: refusal.why + kept, action: !refusal.retries }
  }
  if (link === 'offline') {
    const notice = readOnly
      ? 'No connection. The page is shown as it was; it catches up by itself.'
      : unsaved
        ? 'No connection. Your changes are kept in this tab and saved as soon as the server is back.'
        : 'No connection. You can go on writing; it is saved as soon as the server is back.'
    return { kind: 'offline', label: 'Offline', notice, action: false }
  }
  if (link === 'connecting') return { kind: 'connecting', label: 'Connecting…', notice: null, action: false }
  if (readOnly) return { kind: 'read-only', label: 'Read only', notice: null, action: false }
  if (rejected) return { kind: 'late', label: 'Not saved', notice: rejected, action: false }
  if (late) {
    const notice = 'The server has not confirmed your last changes yet. They are kept in this tab; do not close it.'
    return { kind: 'late', label: 'Not saved yet', notice, action: false }
  }
  if (unsaved) return { kind: 'saving', label: 'Saving…', notice: null, action: false }
  return { kind: 'saved', label: 'Saved', notice: null, action: false }
}

/**
 * What a screen reader is told: only what a writer must know, each trouble once and its end, but nothing for each save.
 * @param {Status['kind']} told what was told last; `saved` when all was well since
 * @param {Status} now
 * @returns {string | null}
 */
export function announcementOf(told, now) {
  if (now.kind === told || now.kind === 'connecting' || now.kind === 'saving') return null
  if (now.kind === 'saved') return 'Everything is saved again.'
  return now.kind === 'read-only' ? 'You can read this page and not change it.' : (now.notice ?? now.label)
}

/** Words for the ways in which a server refuses for good; other closings are tried again at once. @type {Record<number, Refusal>} */
const REFUSALS = {
  4400: { why: 'The server could not understand what this page sent.', retries: false },
  4401: { why: 'The server wants a valid token to open this page.', retries: false },
  4403: { why: 'You have no access to this page.', retries: false },
  4404: { why: 'This page has been deleted.', retries: false },
  4413: { why: 'A change was larger than the server takes.', retries: false },
  4429: { why: 'The server has too much to do for you at the moment. It is tried again in half a minute.', retries: true },
}

/**
 * @param {number} code of a closed socket
 * @param {string} reason what the server said: a code for programs, a colon, a sentence
 * @returns {Refusal | null}
 */
export function refusalOf(code, reason) {
  const forGood = code >= 4400 && code < 4500
  if (!forGood) return null
  const known = REFUSALS[code] ?? { why: `The server refused the connection with the code ${code}.`, retries: false }
  const sentence = reasonSentence(reason)
  return sentence ? { ...known, why: `${known.why} The server says: ${sentence}.` } : known
}

/** The sentence of a server's refusal, without the code before it. @param {string} reason */
export function reasonSentence(reason) {
  return reason.replace(/^\w+: */, '').trim()
}
