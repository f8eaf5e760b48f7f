// Documents of Yjs on pages, for tests that look at one editor.

import * as Y from 'yjs'

import { until } from '../../support/wait.js'
import { PROVIDERS } from './providers.js'

const [provider] = PROVIDERS

/** A document on a page, once it has what is there; `leave` ends it. */
export async function joined (server, page) {
  const doc = new Y.Doc()
  const connection = provider.connect(server.url, page, doc)
  await until('the page', () => connection.synced)
  const leave = () => {
    connection.destroy()
    doc.destroy()
  }
  return { doc, awareness: connection.awareness, leave }
}
