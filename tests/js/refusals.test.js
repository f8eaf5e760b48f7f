// Connections that are refused, with the client package that applications use: at once over either transport, in the words that their
// clients compare.

import { describe, test } from 'node:test'
import assert from 'node:assert/strict'

import { io } from './support/asyncapi.js'
import { serverForFile } from './support/suite.js'
import { JWT_SECRET, sign } from './support/tokens.js'
import { within } from './support/wait.js'

const APP = 'https://app.example.org'
const FRIEND = 'https://friend.example.org'

const server = serverForFile({
  env: {
    JWT_SECRET, NEXTAUTH_SECRET: 'secret-of-the-sessions-of-the-tests-0123456789', WEB_APP_URL: APP, ADDITIONAL_ALLOWED_ORIGINS: FRIEND
  }
})

/** Long before the client would give up by itself. */
const AT_ONCE_MS = 5_000

const session = value => `next-auth.session-token=${value}`
const user = { sub: 'ada', pages: { '*': 'view' } }
const elsewhere = { secret: 'the-secret-of-somebody-else-0123456789-0123456789' }

/** What a client shows, and what it hears. */
const REFUSED = [
  ['nothing, from the application', { origin: APP }, 'Authentication required', 'unauthenticated'],
  ['nothing, from another allowed origin', { origin: FRIEND }, 'Authentication error: No token provided', 'unauthenticated'],
  ['nothing, from no browser', {}, 'Authentication error: No token provided', 'unauthenticated'],
  ['a cookie that proves nothing', { origin: APP, cookie: session('nonsense') }, 'Authentication failed', 'unauthenticated'],
  ['a token that is none', { token: 'nonsense' }, 'Authentication error: Invalid token', 'unauthenticated'],
  ['a token of somebody else', { origin: APP, token: sign(user, elsewhere) }, 'Authentication error: Invalid token', 'unauthenticated'],
  ['a token that has ended', { token: sign(user, { expiresIn: -60 }) }, 'Authentication error: Invalid token', 'token_expired'],
  ['a good token, from a foreign origin', { origin: 'https://evil.example.org', token: sign(user) }, 'Origin not allowed', 'forbidden']
]

for (const transports of [['websocket'], ['polling'], ['polling', 'websocket']]) {
  describe(transports.join(' and then '), () => {
    const connect = ({ origin, cookie, token }) => io(server().url, {
      transports,
      auth: token ? { token } : {},
      extraHeaders: { ...(origin && { origin }), ...(cookie && { cookie }) },
      forceNew: true,
      reconnection: false
    })

    for (const [what, shown, message, code] of REFUSED) {
      test(`${what} is refused`, async () => {
        const socket = connect(shown)
        try {
          const error = await within('a refusal', new Promise((resolve, reject) => {
            socket.once('connect_error', resolve).once('connect', () => reject(new Error('it was let in')))
          }), AT_ONCE_MS)
          assert.equal(error.message, message)
          assert.deepEqual(error.data, { code, retryable: false })
        } finally {
          socket.disconnect()
        }
      })
    }

    test('a good token is let in, from the application and from no browser', async () => {
      for (const origin of [APP, FRIEND, undefined]) {
        const socket = connect({ origin, token: sign(user) })
        await within('a connection', new Promise((resolve, reject) => socket.once('connect', resolve).once('connect_error', reject)), AT_ONCE_MS)
        assert.equal((await socket.emitWithAck('join_channel', 'p')).ok, true)
        socket.disconnect()
      }
    })
  })
}
