// Monaco with y-monaco, in Chromium.

import assert from 'node:assert/strict'
import { after, before } from 'node:test'

import { Browser } from './support/browser.js'
import { testEditor } from './support/suite.js'

let browser
before(async () => { browser = await Browser.launch('./monaco.js') })
after(async () => {
  await browser?.close()
  assert.deepEqual(browser?.complaints, [], 'what the pages complain about')
})

testEditor({ name: 'Monaco', field: 'monaco' }, (provider, place) => browser.join(provider, place))
