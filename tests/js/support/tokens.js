// Tokens as an application's backend would sign them.

import { createHmac } from 'node:crypto'

export const JWT_SECRET = 'secret-of-the-tests-that-is-long-enough-0123456789'

const part = value => Buffer.from(JSON.stringify(value)).toString('base64url')

/** Signs claims with HS256. `expiresIn` is in seconds from now. */
export function sign (claims, { secret = JWT_SECRET, expiresIn = 3600, header = {} } = {}) {
  const head = part({ alg: 'HS256', typ: 'JWT', ...header })
  const body = part({ exp: Math.floor(Date.now() / 1000) + expiresIn, ...claims })
  const signature = createHmac('sha256', secret).update(`${head}.${body}`).digest('base64url')
  return `${head}.${body}.${signature}`
}

/** A token of `user` for pages: an object from page id or pattern to role. */
export const tokenFor = (user, pages, options) => sign({ sub: user, name: user, pages }, options)
