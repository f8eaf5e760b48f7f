// Connections of socket.io-client whose every event and acknowledgement must be as src/events/asyncapi.json says. A test in which
// one is not fails at its end.

import { after, afterEach } from 'node:test'
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'

import Ajv from 'ajv'
import { io as connect } from 'socket.io-client'

const DOCUMENT = JSON.parse(readFileSync(new URL('../../../src/events/asyncapi.json', import.meta.url)))

/** Stands for bytes, which JSON has not: no id or text of a test is this. */
const BYTES = '\0bytes'

// Types are where the keywords are, or next to them.
const ajv = new Ajv({ allErrors: true, allowUnionTypes: true, strictTypes: false, schemas: { asyncapi: DOCUMENT }, keywords: Object.keys(DOCUMENT) })
ajv.addFormat('binary', text => text === BYTES)

const at = pointer => ({ $ref: `asyncapi${pointer}` })
const isBackends = ({ $ref }) => $ref === '#/components/schemas/ByBackend'

/** What the server itself sends under a name; a backend that uses the name may send anything. */
function ownOf (name, { payload }) {
  const schema = `#/channels/to_clients/messages/${name}/payload`
  if (isBackends(payload) || !payload.anyOf?.some(isBackends)) return at(schema)
  return { anyOf: payload.anyOf.flatMap((own, index) => isBackends(own) ? [] : [at(`${schema}/anyOf/${index}`)]) }
}

/** Events that the server sends and clients do not. */
export const SERVERS_OWN = Object.keys(DOCUMENT.channels.to_clients.messages).filter(name => !(name in DOCUMENT.channels.from_clients.messages))

const mapped = (object, change) => new Map(Object.entries(object).map(([name, value]) => [name, ajv.compile(change(name, value))]))
const { from_clients: fromClients, to_clients: toClients } = DOCUMENT.channels
const SENT = mapped(fromClients.messages, name => at(`#/channels/from_clients/messages/${name}/payload`))
const RECEIVED = mapped(toClients.messages, ownOf)
const ANSWERED = new Map(Object.entries(DOCUMENT.operations).filter(([, { reply }]) => reply).map(([name, { reply }]) =>
  [name, ajv.compile({ anyOf: reply.messages.map(({ $ref }) => at(`${$ref}/payload`)) })]))

/** A payload as it travels, with bytes as a text of their own. */
function travelled (value) {
  if (value === undefined || value === null) return null
  if (value instanceof ArrayBuffer || ArrayBuffer.isView(value)) return BYTES
  if (Array.isArray(value)) return value.map(travelled)
  if (typeof value !== 'object') return value
  return Object.fromEntries(Object.entries(value).filter(([, field]) => field !== undefined).map(([name, field]) => [name, travelled(field)]))
}

/** Why a payload is not as the document says; nothing when it is. */
function wrong (schemas, name, payload) {
  const fits = schemas.get(name)
  if (!fits) return 'there is no such event in the document'
  return fits(travelled(payload)) ? undefined : ajv.errorsText(fits.errors)
}

const found = []
const note = (what, name, payload, why) => {
  if (why) found.push(`${what} ${name} ${JSON.stringify(travelled(payload))?.slice(0, 500)}: ${why}`)
}
const check = () => assert.deepEqual(found.splice(0), [], 'every event is as src/events/asyncapi.json says')
afterEach(check)
after(check)

/** Takes what was found; for the tests of this. */
export const takeFound = () => found.splice(0)

let isMistaken = false

/** Sends, at once, what is not as the document says, to see it refused. */
export function mistaken (send) {
  isMistaken = true
  try {
    return send()
  } finally {
    isMistaken = false
  }
}

function sends (name, payloads) {
  const why = payloads.length > 1 ? 'an event has one argument' : wrong(SENT, name, payloads[0])
  if (!isMistaken) note('sent', name, payloads[0], why)
  else if (!why) note('sent', name, payloads[0], 'it is as the document says, and not mistaken')
}

function receives (name, payload, ...rest) {
  const isMomentary = toClients.messages[name]?.['x-momentary']
  const isOffset = rest.length === 0 || (rest.length === 1 && typeof rest[0] === 'string' && !isMomentary)
  const isWrong = isMomentary ? 'a momentary event has one argument' : 'an event has one argument, and its offset'
  note('received', name, payload, isOffset ? wrong(RECEIVED, name, payload) : isWrong)
}

/** As `io` of socket.io-client. `own` names the events of the application that the test plays, which the document does not know or leaves to backends. */
export function io (url, options, { own = [] } = {}) {
  const socket = connect(url, options)
  const emit = socket.emit
  socket.emit = (name, ...given) => {
    if (own.includes(name)) return emit.call(socket, name, ...given)
    const callback = typeof given.at(-1) === 'function' ? given.pop() : undefined
    sends(name, given)
    if (!callback) return emit.call(socket, name, ...given)
    const checked = (...answer) => {
      // Where a time limit is set, the first argument is an error or null.
      const [failure, body] = callback.withError ? answer : [null, answer[0]]
      if (!(failure instanceof Error) && !(body instanceof Error)) note('answered', name, body, wrong(ANSWERED, name, body))
      return callback(...answer)
    }
    return emit.call(socket, name, ...given, Object.assign(checked, callback))
  }
  socket.onAny((name, ...given) => { if (!own.includes(name)) receives(name, ...given) })
  return socket
}
