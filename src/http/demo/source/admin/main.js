// Puts the parts of the page together: signing in, the sections, and what the server tells by itself.

import { byId } from '../elements.js'
import { fillIcons } from '../icons.js'
import { prepareThemeButton } from '../theme.js'
import { Api, sentence } from './api.js'
import { AuditView } from './audit.js'
import { el, say } from './dom.js'
import { Live } from './live.js'
import { OverviewView } from './overview.js'
import { PagesView } from './pages.js'
import { RoomsView } from './rooms.js'
import { ServerView, callOffDrain } from './server.js'
import { announce, prepareNotice, prepareQuestion } from './tell.js'
import { UsersView } from './users.js'
import { duration } from './words.js'

/** @typedef {import('./views.js').View} View */

const LIVE_WORDS = { connecting: 'Connecting…', live: 'Live', lost: 'No connection' }

const api = new Api()
/** @type {Live | null} */
let live = null
/** @type {Map<string, View>} */
const views = new Map()
/** @type {Map<string, HTMLElement>} */
const headings = new Map()
/** @type {View | null} */
let current = null
/** @type {any} */
let latest = null

/** Makes the sections anew, so that nothing is left of what somebody else has seen. */
function makeViews() {
  views.clear()
  headings.clear()
  /** @type {[string, View][]} */
  const made = [
    ['overview', new OverviewView()],
    ['open', new RoomsView(api)],
    ['people', new UsersView(api)],
    ['pages', new PagesView(api)],
    ['audit', new AuditView(api)],
    ['server', new ServerView(api)],
  ]
  const links = made.map(([key, view]) => {
    views.set(key, view)
    headings.set(key, el('h2', { tabindex: -1 }, view.title))
    return el('li', {}, el('a', { href: `#${key}` }, view.title))
  })
  byId('nav').replaceChildren(el('ul', {}, ...links))
}

/** Shows the section that the address names. @param {boolean} moves whether somebody has just asked for it */
function showSection(moves) {
  if (!live) return
  const key = views.has(location.hash.slice(1)) ? location.hash.slice(1) : 'overview'
  const view = /** @type {View} */ (views.get(key))
  const heading = /** @type {HTMLElement} */ (headings.get(key))
  document.title = `${view.title} · Pageroom administration`
  for (const link of byId('nav').querySelectorAll('a')) {
    if (link.hash === `#${key}`) link.setAttribute('aria-current', 'page')
    else link.removeAttribute('aria-current')
  }
  byId('view').replaceChildren(heading, view.element)
  current = view
  if (latest) view.take(latest)
  view.show()
  if (moves) heading.focus()
}

/** @param {any} overview */
function take(overview) {
  const before = latest
  latest = overview
  current?.take(overview)
  showDrain(before?.drain ?? null, overview.drain)
}

/** @param {any} before @param {any} drain */
function showDrain(before, drain) {
  byId('drain-banner').hidden = drain === null
  if (drain) {
    say(byId('drain-words'), drain.stopping ? 'This server is stopping.' : `This server stops in ${duration(drain.secondsLeft)}.`)
    say(byId('drain-rest'), drain.stopping ? 'Everything is being stored.' : 'Nobody new is let in.')
    byId('drain-call-off').hidden = drain.stopping
  }
  // Its beginning and its end are told, and not each second.
  if (drain && !before) announce(drain.stopping ? 'This server is stopping.' : `This server stops in ${duration(drain.secondsLeft)}.`)
  if (!drain && before) announce('The drain was called off. This server goes on.')
}

/** @param {import('./live.js').LiveKind} kind */
function showLive(kind) {
  const place = byId('live')
  if (kind === 'lost' && place.dataset.kind === 'live') announce('The connection to the server is lost. It is tried again.')
  if (kind === 'live' && place.dataset.kind === 'lost') announce('The connection to the server is back.')
  place.dataset.kind = kind
  say(byId('live-label'), LIVE_WORDS[kind])
}

/** @param {string} fault */
function showSignIn(fault = '') {
  live?.stop()
  live = null
  latest = null
  current = null
  api.token = null
  for (const dialog of document.querySelectorAll('dialog')) dialog.close()
  byId('view').replaceChildren()
  byId('page-body').replaceChildren()
  for (const id of ['nav', 'leave', 'live', 'drain-banner']) byId(id).hidden = true
  byId('sign-in').hidden = false
  say(byId('sign-in-error'), fault)
  document.title = 'Sign in · Pageroom administration'
  byId('token').focus()
}

function showInside() {
  byId('sign-in').hidden = true
  for (const id of ['nav', 'leave', 'live']) byId(id).hidden = false
  makeViews()
  live = new Live(api)
  live.onOverview = take
  live.onKind = showLive
  live.follow()
  showSection(false)
}

/** @param {string} token */
async function signIn(token) {
  const field = /** @type {HTMLInputElement} */ (byId('token'))
  const button = /** @type {HTMLButtonElement} */ (byId('sign-in-form').querySelector('button'))
  say(byId('sign-in-error'), '')
  button.disabled = true
  api.token = token
  try {
    latest = await api.ask('api/admin/overview')
    field.value = ''
    showInside()
    headings.get(location.hash.slice(1) || 'overview')?.focus()
  } catch (error) {
    // A token that is no good was told already.
    if (api.hasToken) showSignIn(sentence(error))
  } finally {
    button.disabled = false
  }
}

function start() {
  fillIcons()
  prepareThemeButton()
  prepareNotice()
  prepareQuestion()
  api.onSignedOut = ({ status }) =>
    showSignIn(status === 401 ? 'The server does not take this token.' : 'This token is good, but not for administration.')
  byId('sign-in-form').addEventListener('submit', (event) => {
    event.preventDefault()
    signIn(/** @type {HTMLInputElement} */ (byId('token')).value.trim())
  })
  byId('leave').addEventListener('click', () => showSignIn())
  byId('drain-call-off').addEventListener('click', async () => {
    await callOffDrain(api)
    byId('main').focus()
  })
  addEventListener('hashchange', () => showSection(true))
  // Time passes also while the server has nothing to tell.
  setInterval(() => latest && current?.take(latest), 1000)
  if (api.hasToken) showInside()
  else showSignIn()
}

start()
