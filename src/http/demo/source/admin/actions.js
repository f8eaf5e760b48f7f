// What is done to users and pages, each after a question that names what it does.

import { inPath } from './api.js'
import { sentenceOf } from './dom.js'
import { attempt, confirmed } from './tell.js'

/** @typedef {import('./api.js').Api} Api */

/** @param {Api} api @param {string} user @param {string} room @param {string} shown how the room is called */
export async function sendOut(api, user, room, shown) {
  const sure = await confirmed({
    title: sentenceOf`Send ${user} out of ${shown}?`,
    text: 'All connections of this user to it end now. Whoever still has a role there may come back.',
    yes: 'Send out',
  })
  if (!sure) return false
  return attempt(async () => {
    const body = { userId: user, roomPattern: room, reason: 'session_revoked' }
    const { kickedCount } = await api.ask('api/kick', { method: 'POST', body })
    if (kickedCount === 0) return sentenceOf`${user} was not in ${shown} any more.`
    const seats = kickedCount === 1 ? 'one connection' : `${kickedCount} connections`
    return sentenceOf`${user} was sent out of ${shown}: ${seats} ended.`
  })
}

/** @param {Api} api @param {string} user */
export async function signOut(api, user) {
  const sure = await confirmed({
    title: sentenceOf`Sign ${user} out everywhere?`,
    text: 'All connections of this user end, and tokens from before count no more. With a new token the user may come back.',
    yes: 'Sign out everywhere',
  })
  if (!sure) return false
  return attempt(async () => {
    await api.ask(`api/users/${inPath(user)}/sign-out`, { method: 'POST' })
    return sentenceOf`${user} is signed out everywhere.`
  })
}

/** @param {Api} api @param {string} page */
export async function moveToTrash(api, page) {
  const sure = await confirmed({
    title: sentenceOf`Move ${page} to the trash?`,
    text: 'Everybody at the page is sent away, and nobody can open it until it is restored. Nothing of it is lost.',
    yes: 'Move to the trash',
  })
  if (!sure) return false
  return attempt(async () => {
    await api.ask(`api/pages/${inPath(page)}`, { method: 'DELETE' })
    return sentenceOf`${page} is in the trash.`
  })
}

/** @param {Api} api @param {string} page */
export async function restore(api, page) {
  return attempt(async () => {
    await api.ask(`api/pages/${inPath(page)}/restore`, { method: 'POST' })
    return sentenceOf`${page} is open again.`
  })
}

/** @param {Api} api @param {string} page @param {string} user @param {string} role */
export async function grant(api, page, user, role) {
  return attempt(async () => {
    await api.ask(`api/pages/${inPath(page)}/permissions/${inPath(user)}`, { method: 'PUT', body: { role } })
    return sentenceOf`${whom(user)} has the role ${role} on ${page}.`
  })
}

/** @param {Api} api @param {string} page @param {string} user */
export async function revoke(api, page, user) {
  const sure = await confirmed({
    title: sentenceOf`Take the role of ${user === '*' ? 'everybody' : user} on ${page} away?`,
    text: 'Connections that have it from nowhere else end now.',
    yes: 'Take the role away',
  })
  if (!sure) return false
  return attempt(async () => {
    await api.ask(`api/pages/${inPath(page)}/permissions/${inPath(user)}`, { method: 'DELETE' })
    return sentenceOf`${whom(user)} has no role of its own on ${page} any more.`
  })
}

/** @param {string} user */
export function whom(user) {
  return user === '*' ? 'Everybody' : user
}
