// Proves that the committed dist/ is what the sources give: builds into a temporary directory and compares every byte.

import { execFileSync } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const root = join(import.meta.dirname, '..')
const fresh = mkdtempSync(join(tmpdir(), 'pageroom-demo-'))

/** @param {string} directory @returns {Map<string, Buffer>} */
function filesIn(directory) {
  const entries = readdirSync(directory, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile())
  const paths = entries.map((entry) => join(entry.parentPath, entry.name)).sort()
  return new Map(paths.map((path) => [path.slice(directory.length + 1), readFileSync(path)]))
}

try {
  execFileSync(process.execPath, [join(root, 'node_modules/vite/bin/vite.js'), 'build', '--logLevel', 'error', '--outDir', fresh], {
    cwd: root,
    stdio: 'inherit',
  })
  const built = filesIn(fresh)
  const committed = filesIn(join(root, 'dist'))
  const names = [...new Set([...built.keys(), ...committed.keys()])].sort()
  const different = names.filter((name) => !built.get(name)?.equals(committed.get(name) ?? Buffer.alloc(0)))
  for (const name of different) {
    const what = !built.has(name) ? 'is not built any more' : !committed.has(name) ? 'is missing' : 'differs'
    console.error(`dist/${name} ${what}`)
  }
  if (different.length > 0) {
    console.error('dist/ is not what the sources give: run `npm ci && npm run build` and commit it')
    process.exitCode = 1
  } else {
    console.log(`dist/ is what the sources give (${names.length} files)`)
  }
} finally {
  rmSync(fresh, { recursive: true })
}
