// Whom pages are for: people with a phone, people in the dark, people who hear what others see.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'

const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8')

export const PHONE = { viewport: { width: 360, height: 740 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true }
export const DARK = /** @type {const} */ ({ colorScheme: 'dark' })

/** What axe finds wrong in the page as it is. @param {import('./browser.js').Person} person */
export async function accessibilityFaults(person) {
  await person.page.evaluate(AXE)
  const tags = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice']
  const { violations, passes } = await person.page.evaluate((values) => /** @type {any} */ (window).axe.run({ runOnly: { type: 'tag', values } }), tags)
  assert.ok(passes.length > 10, 'the rules have been tried')
  return violations.map((/** @type {any} */ { id, nodes }) => `${id}: ${nodes.map((/** @type {any} */ node) => node.target).join(' ')}`)
}
