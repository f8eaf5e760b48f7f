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
