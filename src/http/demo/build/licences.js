// Collects the licences of all packages that are in the bundle, and stops the build at one that is not permissive.

import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

const PERMISSIVE = new Set(['MIT', 'ISC', 'BSD-2-Clause', 'BSD-3-Clause', '0BSD', 'Apache-2.0'])

/** @param {string} fileName @returns {import('vite').Plugin} */
export function licences(fileName) {
  return {
    name: 'licences',
    generateBundle(_options, bundle) {
      const directories = new Set()
      for (const output of Object.values(bundle)) {
        if (output.type !== 'chunk') continue
        for (const id of output.moduleIds) {
          const directory = packageDirectory(id)
          if (directory) directories.add(directory)
        }
      }
      const texts = [...directories].map(licenceText).sort()
      this.emitFile({ type: 'asset', fileName, source: texts.join(`\n${'-'.repeat(80)}\n\n`) })
    },
  }
}

/** @param {string} moduleId */
function packageDirectory(moduleId) {
  // A module that the bundler itself brings in (its loader of chunks) has no file.
  if (moduleId.includes('vite/preload-helper')) return join(import.meta.dirname, '../node_modules/vite')
  return /^(.*\/node_modules\/(?:@[^/]+\/)?[^/]+)\//.exec(moduleId)?.[1]
}

/** @param {string} directory */
function licenceText(directory) {
  const { name, version, license } = JSON.parse(readFileSync(join(directory, 'package.json'), 'utf8'))
  if (!PERMISSIVE.has(license)) throw new Error(`${name}@${version} has the licence "${license}", which is not on the list of permissive ones`)
  const file = readdirSync(directory).find((entry) => /^licen[cs]e/i.test(entry))
  if (!file) throw new Error(`${name}@${version} has no licence file`)
  return `${name} ${version} (${license})\n\n${readFileSync(join(directory, file), 'utf8').trim()}\n`
}
