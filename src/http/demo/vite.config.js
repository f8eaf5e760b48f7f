// How the sources become what the server embeds: its pages, hashed assets, and the licences of what is bundled.

import { defineConfig } from 'vite'

import { licences } from './build/licences.js'

/** Lets the script run before the first paint, so that a chosen theme does not flash up as the other one. */
function blockRendering(/** @type {string} */ html) {
  return html.replace('<script type="module"', '<script type="module" blocking="render"')
}

export default defineConfig({
  // A proxy may have put the server under a path.
  base: './',
  plugins: [licences('assets/licenses.txt'), { name: 'theme-before-paint', transformIndexHtml: { order: 'post', handler: blockRendering } }],
  build: {
    target: ['chrome125', 'edge125', 'firefox128', 'safari18'],
    // Data addresses in the markup would only make it longer.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
    rolldownOptions: { input: ['index.html', 'admin.html', 'admin-off.html'] },
  },
})
