// The applications of examples/ as they are printed: built with Vite and served from a port of their own.

import { execFile } from 'node:child_process'
import { mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs'
import { createServer, request as ask } from 'node:http'
import { tmpdir } from 'node:os'
import { extname, join, sep } from 'node:path'
import { promisify } from 'node:util'

const EXAMPLES = join(import.meta.dirname, '../../../../examples')
const VITE = join(EXAMPLES, 'node_modules/vite/bin/vite.js')
/** Where all of them expect the server: its defaults. */
const PRINTED_ADDRESS = '127.0.0.1:3001'
const TYPES = { '.html': 'text/html', '.js': 'text/javascript', '.css': 'text/css' }

export class Applications {
  #directory = mkdtempSync(join(tmpdir(), 'pageroom-examples-'))
  /** What is served, by its path. */
  #files = new Map()
  #server
  /** The port of the backend that requests below /api are passed to, as Vite's proxy does it. */
  backend

  /**
   * Builds these examples and serves each below its name.
   *
   * @param {string[]} names
   * @param {{ port: number }} pageroom
   * @param {number} [port] default: a free one
   */
  static async serve (names, pageroom, port = 0) {
    const applications = new Applications()
    await Promise.all(names.map(name => applications.#build(name)))
    applications.#pointTo(`127.0.0.1:${pageroom.port}`)
    applications.#server = createServer((request, response) => applications.#answer(request, response))
    await new Promise(resolve => applications.#server.listen(port, '127.0.0.1', resolve))
    applications.origin = `http://127.0.0.1:${applications.#server.address().port}`
    return applications
  }

  async #build (name) {
    const out = join(this.#directory, name)
    const options = ['build', '--logLevel', 'error', '--base', './', '--emptyOutDir', '--outDir', out]
    await promisify(execFile)(process.execPath, [VITE, ...options], { cwd: join(EXAMPLES, name) })
  }

  /** Reads what was built. The one thing that is not as printed: the server of a test has another port. */
  #pointTo (address) {
    for (const file of readdirSync(this.#directory, { recursive: true })) {
      const type = TYPES[extname(file)]
      if (type === undefined) continue
      const text = readFileSync(join(this.#directory, file), 'utf8').replaceAll(PRINTED_ADDRESS, address)
      this.#files.set(`/${file.replaceAll(sep, '/')}`, { type, text })
    }
  }

  #answer (request, response) {
    const { pathname } = new URL(request.url, this.origin)
    if (pathname.startsWith('/api/')) return this.#pass(request, response)
    const file = this.#files.get(pathname.endsWith('/') ? `${pathname}index.html` : pathname)
    if (!file) return response.writeHead(404).end()
    response.writeHead(200, { 'content-type': file.type }).end(file.text)
  }

  #pass (request, response) {
    const { method, url: path, headers } = request
    const passed = ask({ host: '127.0.0.1', port: this.backend, method, path, headers }, answer => {
      response.writeHead(answer.statusCode, answer.headers)
      answer.pipe(response)
    })
    passed.once('error', () => response.writeHead(502).end())
    request.pipe(passed)
  }

  async close () {
    this.#server.closeAllConnections()
    await new Promise(resolve => this.#server.close(resolve))
    rmSync(this.#directory, { recursive: true, force: true })
  }
}
