// Looks for memory that is never given back, and for work that serves nobody: people come and go for as long as it is asked for, and the
// server's memory is read all the while.
//
//   cargo build --release --bin pageroom && npm --prefix benches/peers ci && node benches/soak.mjs
//
// What comes and goes: sockets that enter rooms, type, point, are cut or leave; documents that are opened, edited and closed; backends that
// tell rooms in which nobody is. Names of rooms, pages and users are new all the time. Prints a line a minute, and ends with 1 when the
// memory of the last third is more than a tenth (and 16 MiB) above that of the second. Settings, all of them variables:
//   MINUTES                for how long (60)
//   SOCKETS                connections that are there at any time (200)
//   KINDS                  what comes and goes (sockets,documents,backends)
//   SERVER_CPU, LOAD_CPU   the cores (0 and 1)
//   PAGEROOM_BIN           the binary (that of target/release)

import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import WebSocket from './peers/node_modules/ws/wrapper.mjs'
import { Child, freshPort, median, settings as common } from './support/processes.mjs'

const minutes = Number(process.env.MINUTES ?? 60)
const sockets = Number(process.env.SOCKETS ?? 200)
const kinds = (process.env.KINDS ?? 'sockets,documents,backends').split(',')
const adminToken = 'a token of the backend, for figures alone'
const counted = { joined: 0, edited: 0, told: 0, cut: 0, failed: 0 }
let made = 0
const fresh = prefix => `${prefix}${(made++).toString(36)}`
const pick = list => list[Math.floor(Math.random() * list.length)]

const folder = mkdtempSync(join(tmpdir(), 'pageroom-soak-'))
const port = freshPort()
const env = {
  HOST: '127.0.0.1',
  PORT: String(port),
  DATABASE_URL: `sqlite://${join(folder, 'pageroom.db')}`,
  RUST_LOG: 'error',
  PAGEROOM_ADMIN_TOKEN: adminToken,
  PAGEROOM_MAX_REQUESTS_PER_SECOND: '0',
  PAGEROOM_HISTORY: '1 day'
}
const child = new Child(common.pageroom, ['serve'], { cpu: common.serverCpu, env, log: join(folder, 'pageroom.log') })

/** Memory that the server has now, in MiB, without its readers. */
const memory = () => Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${serverId}/status`, 'utf8'))[1]) / 1024
let serverId

/** A socket of Socket.IO: enters rooms, types and points, and goes. */
function socketIo () {
  return new Promise(resolve => {
    const socket = new WebSocket(`ws://127.0.0.1:${port}/socket.io/?EIO=4&transport=websocket`)
    const emit = (name, payload) => socket.send(`42${JSON.stringify([name, payload])}`)
    socket.on('error', () => { counted.failed += 1 })
    socket.on('close', resolve)
    socket.on('message', async message => {
      const text = String(message)
      if (text.startsWith('0')) return socket.send('40')
      if (text === '2') return socket.send('3')
      if (!text.startsWith('40')) return
      counted.joined += 1
      const page = Math.random() < 0.5 ? `crowd-${made % 5}` : fresh('page-')
      emit('join_page', page)
      emit('component:subscribe', { componentId: fresh('component-') })
      emit('join-room', fresh('CODE'))
      for (let step = 0; step < 5; step++) {
        if (socket.readyState !== WebSocket.OPEN) return
        emit('typing_start', { pageId: page })
        emit('cursor_move', { pageId: page, cursor: { x: step, y: made } })
        await sleep(100 + Math.random() * 400)
      }
      if (socket.readyState !== WebSocket.OPEN) return
      if (Math.random() < 0.5) {
        counted.cut += 1
        return socket.terminate()
      }
      emit('leave_page', page)
      socket.close()
    })
  })
}

const number = value => {
  const bytes = []
  for (; value > 127; value = Math.floor(value / 128)) bytes.push((value % 128) | 128)
  return [...bytes, value]
}

/** A client of y-websocket: asks for a document, writes letters, and goes. */
function document () {
  return new Promise(resolve => {
    // Of those that many edit there are others after a while: a page that is written in takes more as long as it is open.
    const page = Math.random() < 0.5 ? `shared-${Math.floor(made / 2000)}-${made % 20}` : fresh('document-')
    const socket = new WebSocket(`ws://127.0.0.1:${port}/ws/${page}`)
    const client = 1 + Math.floor(Math.random() * 2 ** 31)
    socket.on('error', () => { counted.failed += 1 })
    socket.on('close', resolve)
    socket.on('open', async () => {
      socket.send(Uint8Array.from([0, 0, 1, 0]))
      for (let clock = 0; clock < 5; clock++) {
        // The first letter of a client in the text "t", the others behind it.
        const place = clock === 0 ? [4, 1, 1, 116] : [132, ...number(client), clock - 1]
        const update = [1, 1, ...number(client), clock, ...place, 1, 120, 0]
        if (socket.readyState !== WebSocket.OPEN) return
        socket.send(Uint8Array.from([0, 2, ...number(update.length), ...update]))
        counted.edited += 1
        await sleep(50 + Math.random() * 200)
      }
      socket.close()
    })
  })
}

/** A backend that tells rooms in which nobody is. */
async function tell () {
  const body = JSON.stringify({ channelId: fresh('page:empty-'), event: 'page_updated', payload: { pageId: 'x', title: 'y' } })
  const headers = { authorization: `Bearer ${adminToken}`, 'content-type': 'application/json' }
  const answer = await fetch(`http://127.0.0.1:${port}/api/broadcast`, { method: 'POST', headers, body })
  if (!answer.ok) throw new Error(`a broadcast was answered with ${answer.status}: ${await answer.text()}`)
  await answer.arrayBuffer()
  counted.told += 1
}

try {
  await child.listening(port)
  serverId = child.process.pid
  const until = Date.now() + minutes * 60_000
  const comers = [...(kinds.includes('sockets') ? [socketIo, socketIo] : []), ...(kinds.includes('documents') ? [document] : [])]
  const places = Array.from({ length: comers.length === 0 ? 0 : sockets }, async () => {
    while (Date.now() < until) {
      await pick(comers)()
      // A server that refuses everything is no reason to knock faster.
      await sleep(20)
    }
  })
  const telling = (async () => {
    while (kinds.includes('backends') && Date.now() < until) {
      await tell()
      await sleep(20)
    }
  })()
  const read = []
  console.log('minute  MiB    joined  edits  told  cut  failed')
  for (let second = 0; Date.now() < until; second++) {
    await sleep(1000)
    read.push(memory())
    if (second % 60 === 59) {
      const { joined, edited, told, cut, failed } = counted
      console.log(`${(second + 1) / 60}  ${memory().toFixed(1)}  ${joined}  ${edited}  ${told}  ${cut}  ${failed}`)
    }
  }
  await Promise.all([...places, telling])
  const third = Math.floor(read.length / 3)
  const [before, after] = [median(read.slice(third, 2 * third)), median(read.slice(2 * third))]
  console.log(`median of the second third ${before.toFixed(1)} MiB, of the last ${after.toFixed(1)} MiB`)
  if (counted.joined + counted.edited + counted.told === 0) throw new Error('nobody came in')
  if (after > before * 1.1 + 16) process.exitCode = 1
} finally {
  await child.stop()
  rmSync(folder, { recursive: true, force: true })
}
