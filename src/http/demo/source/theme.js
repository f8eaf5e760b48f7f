// Light or dark: as the system says, unless somebody chose otherwise in this browser.

import { byId } from './elements.js'

const KEY = 'pageroom.theme'
const system = matchMedia('(prefers-color-scheme: dark)')

/** @returns {string | null} */
function chosen() {
  try {
    return localStorage.getItem(KEY)
  } catch {
    return null
  }
}

/** @param {string | null} theme */
function choose(theme) {
  try {
    if (theme) localStorage.setItem(KEY, theme)
    else localStorage.removeItem(KEY)
  } catch {
    // without storage the choice lasts as long as the tab
  }
}

function isDark() {
  const theme = document.documentElement.dataset.theme
  return theme ? theme === 'dark' : system.matches
}

/** @param {string | null} theme */
function apply(theme) {
  if (theme === 'dark' || theme === 'light') document.documentElement.dataset.theme = theme
  else delete document.documentElement.dataset.theme
  byId('theme').setAttribute('aria-pressed', String(isDark()))
}

export function prepareThemeButton() {
  apply(chosen())
  system.addEventListener('change', () => apply(chosen()))
  byId('theme').addEventListener('click', () => {
    const dark = !isDark()
    const theme = dark === system.matches ? null : dark ? 'dark' : 'light'
    choose(theme)
    apply(theme)
  })
}
