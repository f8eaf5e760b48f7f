// How the sources become what the server embeds: one page, hashed assets, and the licences of what is bundled.

import { defineConfig } from 'vite'

import { licences } from './build/licences.js'

export default defineConfig({
  plugins: [licences('assets/licenses.txt')],
  build: {
    target: ['chrome125', 'edge125', 'firefox128', 'safari18'],
    // Data addresses in the markup would only make it longer.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
  },
})
