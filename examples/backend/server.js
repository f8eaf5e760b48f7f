// A backend that knows who is signed in, and hands out tokens for Pageroom. It stands for the one that you have.

import { randomBytes } from 'node:crypto'
import { createServer } from 'node:http'
import { SignJWT } from 'jose'

const PORT = Number(process.env.PORT ?? 3002)
/** The secret that Pageroom is started with. */
const SECRET = process.env.JWT_SECRET ?? ''
if (Buffer.byteLength(SECRET) < 32) throw new Error('JWT_SECRET must have at least 32 bytes, the same as for Pageroom')

const MAX_BODY_BYTES = 1_000
const MAX_SESSIONS = 10_000
/** Who is signed in, by the cookie that the browser keeps; the oldest goes when there are too many. */
const sessions = new Map()

/** A token for whoever is signed in: who it is, which pages, what may be done there, and for ten minutes. */
async function token (name) {
  return new SignJWT({ name, pages: { 'team/*': 'edit' } })
    .setProtectedHeader({ alg: 'HS256' })
    .setSubject(name)
    .setExpirationTime('10 minutes')
    .sign(new TextEncoder().encode(SECRET))
}

async function signIn (request, response) {
  let body = ''
  for await (const chunk of request) {
    body += chunk
    if (body.length > MAX_BODY_BYTES) return response.writeHead(413).end()
  }
  // Yours asks for a password.
  const name = new URLSearchParams(body).get('name')?.trim()
  if (!name || name.length > 40) return response.writeHead(422).end()
  const session = randomBytes(32).toString('base64url')
  sessions.set(session, name)
  if (sessions.size > MAX_SESSIONS) sessions.delete(sessions.keys().next().value)
  response.writeHead(204, { 'set-cookie': `session=${session}; HttpOnly; SameSite=Lax; Path=/` }).end()
}

async function giveToken (request, response) {
  const session = /(?:^|; )session=([\w-]+)/.exec(request.headers.cookie ?? '')?.[1]
  const name = sessions.get(session)
  if (!name) return response.writeHead(401).end()
  response.writeHead(200, { 'content-type': 'application/json', 'cache-control': 'no-store' })
  response.end(JSON.stringify({ token: await token(name), name }))
}

const ROUTES = { 'POST /api/sign-in': signIn, 'GET /api/token': giveToken }

createServer((request, response) => {
  const route = ROUTES[`${request.method} ${request.url}`]
  if (!route) return response.writeHead(404).end()
  route(request, response).catch((error) => {
    console.error(error)
    response.destroy()
  })
}).listen(PORT, '127.0.0.1', () => console.log(`tokens at http://127.0.0.1:${PORT}/api/token`))
