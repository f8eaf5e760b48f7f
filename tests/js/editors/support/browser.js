// People who type in a browser: what a typist is told is done in the page.

import { createServer } from 'node:http'
import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'
import { chromium } from 'playwright-core'

const ARGUMENTS = [
  '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync'
]
/** What a typist can be asked and told; see `typist.js`. */
const METHODS = ['isSynced', 'opens', 'edits', 'types', 'undoes', 'redoes', 'holds', 'sees', 'reads']

export class Browser {
  #browser
  #server
  /** Pages at which nobody sits. */
  #free = []
  /** What pages complain about. */
  complaints = []

  /** @param {string} typist the module that puts typists into a page */
  static async launch (typist) {
    const browser = new Browser()
    const files = await bundle(typist)
    browser.#server = createServer((request, response) => {
      const file = request.url === '/' ? ['text/html', '<!doctype html><title>Typing</title><body><script src="/typist.js"></script>'] : files.get(request.url)
      if (!file) return response.writeHead(404).end()
      response.writeHead(200, { 'content-type': file[0] }).end(file[1])
    })
    await new Promise(resolve => browser.#server.listen(0, '127.0.0.1', resolve))
    browser.#browser = await chromium.launch({ executablePath: process.env.CHROMIUM_PATH ?? '/usr/bin/chromium', args: ARGUMENTS })
    return browser
  }

  /** Somebody sits down at a page of their own; gives what stands for them here. */
  async join (provider, place) {
    const page = this.#free.pop() ?? await this.#open()
    await page.evaluate(([name, place]) => globalThis.join(name, place), [provider.name, place])
    const tell = (method, args) => page.evaluate(([method, args]) => globalThis.typist[method](...args), [method, args])
    const typist = Object.fromEntries(METHODS.map(method => [method, (...args) => tell(method, args)]))
    typist.leaves = async () => {
      await tell('leaves', [])
      this.#free.push(page)
    }
    return typist
  }

  async #open () {
    const page = await this.#browser.newPage()
    page.on('pageerror', error => this.complaints.push(String(error.stack ?? error)))
    await page.goto(`http://127.0.0.1:${this.#server.address().port}/`)
    return page
  }

  async close () {
    await this.#browser.close()
    this.#server.close()
  }
}

/** Everything that a page with this module in it asks for, by its path, with its type. */
async function bundle (typist) {
  const { outputFiles } = await build({
    entryPoints: {
      typist: fileURLToPath(new URL(typist, import.meta.url)),
      worker: fileURLToPath(import.meta.resolve('monaco-editor/editor/editor.worker.js'))
    },
    // Where the binding looks for its editor, whose newer versions have it elsewhere.
    alias: { 'monaco-editor/esm/vs/editor/editor.api.js': 'monaco-editor/editor/editor.api.js' },
    bundle: true, format: 'iife', outdir: '/', write: false, logLevel: 'error', loader: { '.ttf': 'file', '.css': 'empty' }
  })
  const type = path => path.endsWith('.js') ? 'text/javascript' : 'application/octet-stream'
  return new Map(outputFiles.map(({ path, contents }) => [path, [type(path), contents]]))
}
