// Writes every document of a y-websocket server's LevelDB (YPERSISTENCE) into a folder, one update a file, for `pageroom import`.
//
//   npm install y-leveldb yjs && node export-y-leveldb.mjs ./dbDir ./documents

import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import { LeveldbPersistence } from 'y-leveldb'
import * as Y from 'yjs'

const [from, to] = process.argv.slice(2)
const persistence = new LeveldbPersistence(from)
for (const name of await persistence.getAllDocNames()) {
  // Whoever could connect has chosen the names, and some would lead out of the folder.
  if (name.includes('\0') || name.split('/').some((part) => ['', '.', '..'].includes(part))) {
    console.error(`left out, for it is no name of a file: ${JSON.stringify(name)}`)
    continue
  }
  const file = join(to, `${name}.update`)
  mkdirSync(join(file, '..'), { recursive: true })
  writeFileSync(file, Y.encodeStateAsUpdate(await persistence.getYDoc(name)))
}
await persistence.destroy()
