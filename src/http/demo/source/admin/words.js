// Numbers, sizes and times in words. No DOM, no clock.

const UNITS = ['B', 'KB', 'MB', 'GB', 'TB']

/** @param {number} bytes */
export function size(bytes) {
  let value = bytes
  let unit = 0
  while (value >= 999.5 && unit < UNITS.length - 1) {
    value /= 1000
    unit += 1
  }
  const digits = unit === 0 || value >= 99.95 ? 0 : 1
  return `${value.toFixed(digits)} ${UNITS[unit]}`
}

/** @param {number} value */
export function count(value) {
  return value.toLocaleString('en', { maximumFractionDigits: value < 10 ? 1 : 0 })
}

/** @param {number} value @param {string} one @param {string} [many] */
export function counted(value, one, many = `${one}s`) {
  return `${count(value)} ${value === 1 ? one : many}`
}

/** Letters that nobody sees, and that turn, join or part what is around them. Joiners within emoji and words are none of them. */
const UNSEEN = /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]|[\u{e0000}-\u{e007f}]/gu

/** A text that others chose, in which nothing hides: what cannot be seen is named. @param {string} text */
export function visible(text) {
  return text.replace(UNSEEN, (letter) => `[U+${/** @type {number} */ (letter.codePointAt(0)).toString(16).toUpperCase().padStart(4, '0')}]`)
}

const LETTERS = new Intl.Segmenter(undefined, { granularity: 'grapheme' })
/** Code points of a letter that is broken nowhere; those that people write have fewer. */
const LONGEST_LETTER = 16

/** The pieces of a text between which a line may be broken although browsers would not: within letters that are joined of very many. @param {string} text */
export function breakable(text) {
  const pieces = ['']
  for (const { segment } of LETTERS.segment(text)) {
    const points = [...segment]
    if (points.length <= LONGEST_LETTER) pieces[pieces.length - 1] += segment
    else for (let at = 0; at < points.length; at += 4) pieces.push(points.slice(at, at + 4).join(''))
  }
  return pieces[0] === '' && pieces.length > 1 ? pieces.slice(1) : pieces
}

/** The two largest parts of a time. @param {number} seconds */
export function duration(seconds) {
  const whole = Math.max(0, Math.floor(seconds))
  /** @type {[number, string][]} */
  const parts = [
    [Math.floor(whole / 86_400), 'd'],
    [Math.floor(whole / 3600) % 24, 'h'],
    [Math.floor(whole / 60) % 60, 'min'],
    [whole % 60, 's'],
  ]
  const first = parts.findIndex(([value]) => value > 0)
  if (first < 0) return '0 s'
  const shown = parts.slice(first, first + 2).filter(([value]) => value > 0)
  return shown.map(([value, unit]) => `${value} ${unit}`).join(' ')
}

/** How much of a page is what was deleted. @param {{ liveBytes: number, deadBytes: number }} weight */
export function deadShare({ liveBytes, deadBytes }) {
  const all = liveBytes + deadBytes
  return all === 0 ? 0 : Math.round((deadBytes / all) * 100)
}

/** A time of RFC 3339 as people here write it. @param {string} at */
export function moment(at) {
  const time = new Date(at)
  return Number.isNaN(time.getTime()) ? at : time.toLocaleString([], { dateStyle: 'medium', timeStyle: 'medium' })
}

/** What somebody wrote into a field for a moment, as RFC 3339; the time zone is that of the browser. @param {string} local */
export function rfc3339(local) {
  const time = new Date(local)
  return local === '' || Number.isNaN(time.getTime()) ? null : time.toISOString()
}

/** @type {Record<string, { name: string, unit: (value: number) => string }>} */
export const QUEUES = {
  storeWriter: { name: 'Waiting for the store', unit: count },
  unstoredBytes: { name: 'Not stored yet', unit: size },
  readers: { name: 'Questions to readers', unit: count },
  auditNotes: { name: 'Audit notes to be stored', unit: count },
}
