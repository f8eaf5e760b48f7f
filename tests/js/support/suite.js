// What every test file of this folder does around its tests.

import { after, before } from 'node:test'

import { disposeClients } from './clients.js'
import { disposeRawClients } from './raw.js'
import { Server } from './server.js'

/** Starts one server for a whole file and ends it afterwards; gives a function that returns it. */
export function serverForFile (options) {
  let server
  before(async () => { server = await Server.start(options) })
  after(async () => {
    disposeClients()
    disposeRawClients()
    await server?.dispose()
  })
  return () => server
}

let pages = 0

/** A page name that no other test uses. */
export const freshPage = (name = 'page') => `${name}-${process.pid}-${++pages}`
