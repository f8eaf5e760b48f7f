#!/usr/bin/env node
// Starts the server, which the package for this platform holds; passes signals to it and ends as it ends.

import { spawn } from 'node:child_process'
import { createRequire } from 'node:module'

const PASSED_ON = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT']

/** The path of the server. */
function binary () {
  const platform = `${process.platform}-${process.arch}`
  try {
    return createRequire(import.meta.url).resolve(`@pageroom/${platform}/bin/pageroom`)
  } catch {
    console.error(
      `pageroom: there is no server for ${platform} here. Either there is none for this platform, or packages were installed ` +
      'without optional ones (npm\'s --omit=optional): install again without that.'
    )
    process.exit(1)
  }
}

const server = spawn(binary(), process.argv.slice(2), { stdio: 'inherit' })
for (const signal of PASSED_ON) process.on(signal, () => server.kill(signal))

server.on('error', error => {
  console.error(`pageroom: the server could not be started: ${error.message}`)
  process.exitCode = 1
})
server.on('exit', (code, signal) => {
  if (signal === null) return process.exit(code)
  // To whoever waits, this ends as the server has ended.
  process.removeAllListeners(signal)
  process.kill(process.pid, signal)
})
