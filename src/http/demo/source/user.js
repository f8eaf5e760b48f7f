// Who you are to the others: a name and a colour. What somebody chooses is kept in this browser; each of its windows has a name of
// its own, by which the others tell them apart.

/** What was chosen, for all windows of this browser. */
const KEY = 'pageroom.user'
/** Who this window is, also after it is loaded again. */
const WINDOW_KEY = 'pageroom.window'
/** Held by the window that has the name which follows. */
const LOCK = 'pageroom.name.'
const MOST_WINDOWS = 99
/** How long a window that is loaded again waits for its former self to let go of the name. */
const RELOAD_MS = 1_000

/** Colours on which white text is readable; the first word of a guest's name goes with it. */
export const PALETTE = [
  { name: 'Teal', color: '#0f766e' },
  { name: 'Blue', color: '#1d4ed8' },
  { name: 'Violet', color: '#7e22ce' },
  { name: 'Pink', color: '#be185d' },
  { name: 'Red', color: '#b91c1c' },
  { name: 'Amber', color: '#a14a07' },
  { name: 'Olive', color: '#4d6b12' },
  { name: 'Slate', color: '#475569' },
]
const ANIMALS = ['Otter', 'Heron', 'Lynx', 'Robin', 'Badger', 'Marten', 'Finch', 'Hare', 'Crane', 'Newt', 'Wren', 'Seal']

/** @typedef {{ name: string, color: string, colorLight: string }} User */

/** @param {string} name @param {string} color @returns {User} */
function makeUser(name, color) {
  return { name, color, colorLight: `${color}33` }
}

/** @template T @param {T[]} list @returns {T} */
function anyOf(list) {
  return list[Math.floor(Math.random() * list.length)]
}

/**
 * Who this window is: who it was before it was loaded again, else who was chosen in this browser, else a guest with a made-up name. A
 * name that another window of this browser has gets a number and another colour.
 * @returns {Promise<User>}
 */
export async function loadUser() {
  const before = parse(read('sessionStorage', WINDOW_KEY))
  const [navigation] = performance.getEntriesByType('navigation')
  const again = /** @type {PerformanceNavigationTiming | undefined} */ (navigation)?.type === 'reload'
  if (before && again && (await takeName(before.name, RELOAD_MS))) return before
  const wanted = parse(read('localStorage', KEY)) ?? before ?? guest()
  for (const { name, color } of variants(wanted)) {
    if (await takeName(name)) return keepForWindow(makeUser(name, color))
  }
  return keepForWindow(guest())
}

/** What was chosen: kept for this window, and for those that are opened later. @param {string} name @param {string} color */
export function saveUser(name, color) {
  const user = keepForWindow(makeUser(tidyName(name), readableColor(color)))
  write('localStorage', KEY, user)
  takeName(user.name)
  return user
}

function guest() {
  const { name, color } = anyOf(PALETTE)
  return makeUser(`${name} ${anyOf(ANIMALS)}`, color)
}

/** A user as it is wanted, then with numbers and other colours. @param {{ name: string, color: string }} wanted */
export function* variants({ name, color }) {
  yield { name, color }
  const at = PALETTE.findIndex((entry) => entry.color === color)
  for (let number = 2; number <= MOST_WINDOWS; number++) {
    yield { name: tidyName(`${[...name].slice(0, 37).join('')} ${number}`), color: PALETTE[(at + number - 1 + PALETTE.length) % PALETTE.length].color }
  }
}

/** Lets go of the name that this window has. */
let letGo = () => {}

/**
 * Takes a name for this window until it is closed, if no other window of this browser has it. Browsers tell only on secure origins,
 * which a server in a local network is not: there every name is free.
 * @param {string} name @param {number} [waitMs] how long to wait for whoever has it
 * @returns {Promise<boolean>}
 */
function takeName(name, waitMs = 0) {
  if (!navigator.locks) return Promise.resolve(true)
  return new Promise((resolve) => {
    const options = waitMs > 0 ? { signal: AbortSignal.timeout(waitMs) } : { ifAvailable: true }
    const held = navigator.locks.request(LOCK + name, options, (lock) => {
      resolve(lock !== null)
      if (lock === null) return
      letGo()
      return new Promise((end) => (letGo = () => end(undefined)))
    })
    held.catch(() => resolve(false))
  })
}

/** @param {User} user */
function keepForWindow(user) {
  write('sessionStorage', WINDOW_KEY, user)
  return user
}

/** @param {'localStorage' | 'sessionStorage'} storage @param {string} key @param {User} user */
function write(storage, key, { name, color }) {
  try {
    globalThis[storage].setItem(key, JSON.stringify({ name, color }))
  } catch {
    // without storage the name lasts until the window is loaded again
  }
}

/** @param {'localStorage' | 'sessionStorage'} storage @param {string} key */
function read(storage, key) {
  try {
    return globalThis[storage].getItem(key)
  } catch {
    return null
  }
}

/** @param {string | null} json */
function parse(json) {
  try {
    const { name, color } = JSON.parse(json ?? 'null')
    return makeUser(tidyName(name), readableColor(color))
  } catch {
    return null
  }
}

/** A name as it can be shown: one short line without characters that change the text around it. @param {unknown} name */
export function tidyName(name) {
  // What a stranger sends may be an object that cannot be made into text.
  const tidy = (typeof name === 'string' ? name : '')
    .replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\s]+/gu, ' ')
    .trim()
  return [...tidy].slice(0, 40).join('') || 'Guest'
}

/** A colour on which white text is readable (contrast 4.5 or more), near to the one asked for. @param {unknown} color */
export function readableColor(color) {
  if (typeof color !== 'string' || !/^#[0-9a-f]{6}$/i.test(color)) return PALETTE[7].color
  let rgb = [1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16))
  while (1.05 / (luminance(rgb) + 0.05) < 4.5) rgb = rgb.map((part) => Math.floor(part * 0.94))
  return `#${rgb.map((part) => part.toString(16).padStart(2, '0')).join('')}`
}

/** Relative luminance, as the Web Content Accessibility Guidelines define it. @param {number[]} rgb */
function luminance(rgb) {
  const [red, green, blue] = rgb.map((part) => {
    const value = part / 255
    return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4
  })
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue
}

/** One or two letters for a name. @param {string} name */
export function initials(name) {
  const words = name.split(/\s+/).filter(Boolean)
  const letters = words.length > 1 ? [words[0], words[words.length - 1]] : words
  return letters.map((word) => [...word][0].toLocaleUpperCase()).join('')
}
