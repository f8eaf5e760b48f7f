// Who you are to the others: a name and a colour, kept in this browser.

const KEY = 'pageroom.user'

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

/** The user of this browser; a guest with a made-up name at the first visit. @returns {User} */
export function loadUser() {
  const kept = parse(read())
  if (kept) return kept
  const { name, color } = anyOf(PALETTE)
  return saveUser(`${name} ${anyOf(ANIMALS)}`, color)
}

/** @param {string} name @param {string} color */
export function saveUser(name, color) {
  const user = makeUser(tidyName(name), readableColor(color))
  try {
    localStorage.setItem(KEY, JSON.stringify({ name: user.name, color: user.color }))
  } catch {
    // without storage the name lasts as long as the tab
  }
  return user
}

/** Calls back when another tab of this browser has changed the user. @param {(user: User) => void} changed */
export function onUserChangedElsewhere(changed) {
  addEventListener('storage', ({ key, newValue }) => {
    const user = key === KEY ? parse(newValue) : null
    if (user) changed(user)
  })
}

function read() {
  try {
    return localStorage.getItem(KEY)
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
