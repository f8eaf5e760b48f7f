// Two pages, and the way to the backend that knows who is signed in; `main.js` alone needs none of this.

import { defineConfig } from 'vite'

export default defineConfig({
  server: { proxy: { '/api': 'http://127.0.0.1:3002' } },
  build: { rolldownOptions: { input: ['index.html', 'signed-in.html'] } },
})
