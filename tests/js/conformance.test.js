// Engine.IO 4 and Socket.IO 5 as their specifications have them, on the connection layer of /socket.io/ in a binary that echoes.

import { after, before, describe, test } from 'node:test'
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import WebSocket from 'ws'

import { binary, freePort } from './support/server.js'
import { until, within } from './support/wait.js'

const PING_INTERVAL = 300
const PING_TIMEOUT = 200

let child, address

before(async () => {
  const path = join(dirname(binary()), 'pageroom-conformance')
  assert.ok(existsSync(path), `${path} is there: build with --features conformance`)
  const port = await freePort()
  address = `127.0.0.1:${port}`
  child = spawn(path, [], { env: { PORT: String(port) }, stdio: 'inherit' })
  await until('the server listens', () => fetch(`http://${address}/`).then(() => true, () => false))
})
after(() => child?.kill())

/** One of the two servers. */
const at = path => ({
  get (query, init) { return fetch(`http://${address}${path}?${query}`, init) },

  /** Opens a session by polling; gives its parameters and requests of it. */
  async poll () {
    const opening = await (await this.get('EIO=4&transport=polling')).text()
    assert.equal(opening[0], '0')
    const parameters = JSON.parse(opening.slice(1))
    const query = `EIO=4&transport=polling&sid=${parameters.sid}`
    return {
      ...parameters,
      query,
      pull: () => this.get(query),
      push: body => this.get(query, { method: 'POST', body }),
      text: async () => (await this.get(query)).text()
    }
  },

  /** Opens a WebSocket; gives what comes over it, one after the other. */
  socket (query = 'EIO=4&transport=websocket') {
    const socket = new WebSocket(`ws://${address}${path}?${query}`)
    const heard = []
    let wake = () => {}
    socket.on('message', (data, isBinary) => { heard.push(isBinary ? data : String(data)); wake() })
    const closed = new Promise(resolve => {
      socket.on('close', code => resolve(code))
      socket.on('error', () => resolve(1006))
    })
    return {
      socket,
      closed: within => Promise.race([closed, pause(within ?? 5_000).then(() => assert.fail('not closed'))]),
      opened: new Promise(resolve => socket.on('open', resolve)),
      send: data => socket.send(data),
      close: () => socket.terminate(),
      /** The next frame. Pings are answered by the way unless asked for. */
      async next ({ pings = false } = {}) {
        for (;;) {
          while (heard.length === 0) {
            await within('a frame', new Promise(resolve => { wake = resolve }), 5_000)
          }
          const frame = heard.shift()
          if (frame !== '2' || pings) return frame
          socket.send('3')
        }
      }
    }
  },

  /** A WebSocket whose opening has been heard. */
  async open () {
    const session = this.socket()
    const opening = await session.next()
    assert.equal(opening[0], '0')
    return Object.assign(session, { parameters: JSON.parse(opening.slice(1)) })
  }
})

const engine = at('/engine.io/')
const io = at('/socket.io/')

describe('Engine.IO: handshake', () => {
  test('by polling', async () => {
    const { sid, upgrades, pingInterval, pingTimeout, maxPayload } = await engine.poll()
    assert.equal(typeof sid, 'string')
    assert.deepEqual({ upgrades, pingInterval, pingTimeout, maxPayload },
      { upgrades: ['websocket'], pingInterval: PING_INTERVAL, pingTimeout: PING_TIMEOUT, maxPayload: 1_000_000 })
  })

  for (const query of ['transport=polling', 'EIO=abc&transport=polling', 'EIO=3&transport=polling', 'EIO=4', 'EIO=4&transport=abc']) {
    test(`refused: ${query}`, async () => assert.equal((await engine.get(query)).status, 400))
  }

  for (const method of ['POST', 'PUT', 'DELETE']) {
    test(`refused: ${method}`, async () => assert.equal((await engine.get('EIO=4&transport=polling', { method })).status, 400))
  }

  test('over a WebSocket', async () => {
    const { parameters, close } = await engine.open()
    assert.deepEqual(parameters.upgrades, [])
    assert.equal(parameters.pingInterval, PING_INTERVAL)
    close()
  })

  for (const query of ['transport=websocket', 'EIO=abc&transport=websocket', 'EIO=4', 'EIO=4&transport=abc', 'EIO=4&transport=websocket&sid=abc']) {
    test(`refused over a WebSocket: ${query}`, async () => { await engine.socket(query).closed() })
  }

  test('browsers of any origin may poll', async () => {
    const response = await engine.get('EIO=4&transport=polling', { headers: { origin: 'https://example.com' } })
    assert.equal(response.headers.get('access-control-allow-origin'), '*')
  })
})

describe('Engine.IO: heartbeat', () => {
  test('by polling: pings come at their time and are answered', async () => {
    const session = await engine.poll()
    const from = performance.now()
    for (let round = 1; round <= 3; round++) {
      assert.equal(await session.text(), '2')
      assert.ok(performance.now() - from > round * PING_INTERVAL - 50, 'not before its time')
      assert.equal((await session.push('3')).status, 200)
    }
  })

  test('by polling: a silent session ends', async () => {
    const session = await engine.poll()
    await pause(PING_INTERVAL + PING_TIMEOUT + 100)
    assert.equal((await session.pull()).status, 400)
  })

  test('over a WebSocket: pings come at their time and are answered', async () => {
    const session = await engine.open()
    const from = performance.now()
    for (let round = 1; round <= 3; round++) {
      assert.equal(await session.next({ pings: true }), '2')
      assert.ok(performance.now() - from > round * PING_INTERVAL - 50, 'not before its time')
      session.send('3')
    }
    session.close()
  })

  test('over a WebSocket: a silent session ends', async () => { await (await engine.open()).closed(PING_INTERVAL + PING_TIMEOUT + 500) })
})

describe('Engine.IO: close', () => {
  test('by polling', async () => {
    const session = await engine.poll()
    const [pulled, pushed] = await Promise.all([session.pull(), pause(20).then(() => session.push('1'))])
    assert.equal(pulled.status, 200)
    assert.equal(await pulled.text(), '6')
    assert.equal(pushed.status, 200)
    assert.equal((await session.pull()).status, 400)
  })

  test('over a WebSocket', async () => {
    const session = await engine.open()
    session.send('1')
    await session.closed()
  })
})

describe('Engine.IO: messages', () => {
  test('several packets in one payload come back in order', async () => {
    const session = await engine.poll()
    assert.equal(await (await session.push('4one\x1e4two\x1e4three')).text(), 'ok')
    assert.equal(await session.text(), '4one\x1e4two\x1e4three')
  })

  test('bytes by polling', async () => {
    const session = await engine.poll()
    assert.equal((await session.push('4hello\x1ebAQIDBA==')).status, 200)
    assert.equal(await session.text(), '4hello\x1ebAQIDBA==')
  })

  test('nonsense by polling ends the session', async () => {
    const session = await engine.poll()
    assert.equal((await session.push('abc')).status, 400)
    assert.equal((await session.pull()).status, 400)
  })

  test('two polls at a time end the session', async () => {
    const session = await engine.poll()
    const [first, second] = await Promise.all([session.pull(), pause(20).then(() => session.pull())])
    assert.equal(await first.text(), '1')
    assert.equal(second.status, 400)
    assert.equal((await session.pull()).status, 400)
  })

  test('a poll that is broken off ends the session', async () => {
    const session = await engine.poll()
    await engine.get(session.query, { signal: AbortSignal.timeout(50) }).catch(() => {})
    await pause(50)
    assert.equal((await session.pull()).status, 400)
  })

  test('a payload over the limit is refused', async () => {
    const session = await engine.poll()
    assert.equal((await session.push(`4${'x'.repeat(1_000_001)}`)).status, 400)
  })

  test('text and bytes over a WebSocket', async () => {
    const session = await engine.open()
    session.send('4hello')
    assert.equal(await session.next(), '4hello')
    session.send(Buffer.from([1, 2, 3, 4]))
    assert.deepEqual(await session.next(), Buffer.from([1, 2, 3, 4]))
    session.close()
  })

  test('nonsense over a WebSocket ends the session', async () => {
    const session = await engine.open()
    session.send('abc')
    await session.closed()
  })
})

describe('Engine.IO: upgrade', () => {
  async function upgraded () {
    const session = await engine.poll()
    const socket = engine.socket(`EIO=4&transport=websocket&sid=${session.sid}`)
    await socket.opened
    socket.send('2probe')
    assert.equal(await socket.next(), '3probe')
    return { session, socket }
  }

  test('a session goes on over a WebSocket', async () => {
    const { socket } = await upgraded()
    socket.send('5')
    socket.send('4hello')
    assert.equal(await socket.next(), '4hello')
    socket.close()
  })

  test('a poll that waits is let go, and what comes meanwhile goes over the WebSocket', async () => {
    const session = await engine.poll()
    const pulled = session.text()
    await pause(20)
    const socket = engine.socket(`EIO=4&transport=websocket&sid=${session.sid}`)
    await socket.opened
    socket.send('2probe')
    assert.equal(await socket.next(), '3probe')
    assert.equal(await pulled, '6')
    await session.push('4meanwhile')
    socket.send('5')
    assert.equal(await socket.next(), '4meanwhile')
    socket.close()
  })

  test('requests of a session that has gone on are refused', async () => {
    const { session, socket } = await upgraded()
    socket.send('5')
    socket.send('4there')
    assert.equal(await socket.next(), '4there')
    assert.equal((await session.pull()).status, 400)
    socket.send('4hello')
    assert.equal(await socket.next(), '4hello')
    socket.close()
  })

  test('a second WebSocket of a session is refused', async () => {
    const { session, socket } = await upgraded()
    socket.send('5')
    socket.send('4there')
    assert.equal(await socket.next(), '4there')
    await engine.socket(`EIO=4&transport=websocket&sid=${session.sid}`).closed()
    socket.send('4hello')
    assert.equal(await socket.next(), '4hello')
    socket.close()
  })

  test('one WebSocket at a time may be about to take over', async () => {
    const { session, socket } = await upgraded()
    const begun = Date.now()
    await engine.socket(`EIO=4&transport=websocket&sid=${session.sid}`).closed()
    assert.ok(Date.now() - begun < 5_000, 'it is not waited for')
    socket.send('5')
    socket.send('4hello')
    assert.equal(await socket.next(), '4hello')
    socket.close()
  })

  test('a WebSocket that gives up leaves the session to its polls', async () => {
    const { session, socket } = await upgraded()
    socket.close()
    await pause(50)
    await session.push('4still here')
    assert.equal(await session.text(), '4still here')
  })
})

describe('Socket.IO: connecting', () => {
  for (const [namespace, head] of [['/', '0'], ['/custom', '0/custom,']]) {
    for (const auth of ['', '{"token":"123"}']) {
      test(`to ${namespace} with ${auth || 'nothing'}`, async () => {
        const session = await io.open()
        session.send(`4${head}${auth}`)
        const connected = await session.next()
        assert.ok(connected.startsWith(`4${head}{"sid":"`), connected)
        assert.notEqual(JSON.parse(connected.slice(1 + head.length)).sid, session.parameters.sid)
        assert.equal(await session.next(), `42${head.slice(1)}["auth",${auth || '{}'}]`)
        session.close()
      })
    }
  }

  test('by polling', async () => {
    const session = await io.poll()
    await session.push('40')
    assert.match(await session.text(), /^40\{"sid":".+"\}\x1e42\["auth",\{\}\]$/)
  })

  test('to a namespace that is not there', async () => {
    const session = await io.open()
    session.send('40/random')
    assert.equal(await session.next(), '44/random,{"message":"Invalid namespace"}')
    session.close()
  })

  for (const nonsense of ['4abc', '47', '4']) {
    test(`with nonsense (${nonsense})`, async () => {
      const session = await io.open()
      session.send(nonsense)
      await session.closed()
    })
  }

  test('to nothing ends the session after a while', async () => {
    const session = await io.open()
    const from = performance.now()
    session.socket.on('message', data => { if (String(data) === '2') session.send('3') })
    assert.equal(await session.closed(3_000), 4401)
    assert.ok(performance.now() - from > 900, 'not for want of a heartbeat')
  })
})

/** A session that is connected to namespaces. */
async function connected (...heads) {
  const session = await io.open()
  for (const head of heads) {
    session.send(`4${head}`)
    await session.next()
    await session.next()
  }
  return session
}

describe('Socket.IO: leaving', () => {
  test('one namespace leaves the others', async () => {
    const session = await connected('0', '0/custom,')
    session.send('41/custom')
    session.send('42["message","message to main"]')
    assert.equal(await session.next(), '42["message-back","message to main"]')
    session.close()
  })

  test('what is said in a namespace that was left ends the session', async () => {
    const session = await connected('0')
    session.send('41')
    session.send('42["message","anyone?"]')
    await session.closed()
  })
})

describe('Socket.IO: events', () => {
  test('any number of arguments of any kind', async () => {
    const session = await connected('0', '0/custom,')
    for (const args of ['', ',1', ',1,"2",{"3":[true]}', `,"${'ü'.repeat(3)}",null`]) {
      session.send(`42["message"${args}]`)
      assert.equal(await session.next(), `42["message-back"${args}]`)
      session.send(`42/custom,["message"${args}]`)
      assert.equal(await session.next(), `42/custom,["message-back"${args}]`)
    }
    session.close()
  })

  test('attachments', async () => {
    const session = await connected('0')
    session.send('452-["message",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]')
    session.send(Buffer.from([1, 2, 3]))
    session.send(Buffer.from([4, 5, 6]))
    const placed = JSON.parse((await session.next()).slice('452-'.length))
    assert.deepEqual(placed, ['message-back', { _placeholder: true, num: 0 }, { _placeholder: true, num: 1 }])
    assert.deepEqual(await session.next(), Buffer.from([1, 2, 3]))
    assert.deepEqual(await session.next(), Buffer.from([4, 5, 6]))
    session.close()
  })

  test('answers', async () => {
    const session = await connected('0')
    session.send('42456["message-with-ack",1,"2",{"3":[false]}]')
    assert.equal(await session.next(), '43456[1,"2",{"3":[false]}]')
    session.send('452-789["message-with-ack",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]')
    session.send(Buffer.from([1, 2, 3]))
    session.send(Buffer.from([4, 5, 6]))
    const answer = await session.next()
    assert.ok(answer.startsWith('462-789['), answer)
    assert.deepEqual(await session.next(), Buffer.from([1, 2, 3]))
    assert.deepEqual(await session.next(), Buffer.from([4, 5, 6]))
    session.close()
  })

  for (const nonsense of ['4abc', '42{}', '42abc["message-with-ack",1]', '42["message"', '45abc-["message"]']) {
    test(`nonsense ends the session (${nonsense})`, async () => {
      const session = await connected('0')
      session.send(nonsense)
      await session.closed()
    })
  }
})
