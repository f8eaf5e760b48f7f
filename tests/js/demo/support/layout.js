// What can be said of where things are on a page: these run in the browser, or look at what it has painted.

/** Things that lie over each other, or reach out of what they are in; run it in the page. @returns {string[]} */
export function collisions() {
  const found = []
  const dialogs = [...document.querySelectorAll('dialog[open]')]
  const root = dialogs.at(-1) ?? document.body
  const isShown = (/** @type {Element} */ element) => {
    const { width, height } = element.getBoundingClientRect()
    return width > 1 && height > 1 && !element.closest('.hidden, .skip, thead, [hidden], #notice') && getComputedStyle(element).visibility === 'visible'
  }
  const what = (/** @type {Element} */ element) => `${element.tagName.toLowerCase()}.${element.className} “${element.textContent?.slice(0, 30)}”`
  const things = [...root.querySelectorAll('button, input, select, label, .name, .quiet-words, h2, h3, dt, dd, td, th, time, .outcome, nav a')].filter(isShown)
  const isApart = (/** @type {Element} */ one, /** @type {Element} */ other) => !one.contains(other) && !other.contains(one)
  const boxes = things.map((thing) => thing.getBoundingClientRect())
  things.forEach((thing, at) => {
    const box = boxes[at]
    for (let next = at + 1; next < things.length; next += 1) {
      const other = boxes[next]
      const across = Math.min(box.right, other.right) - Math.max(box.left, other.left)
      const down = Math.min(box.bottom, other.bottom) - Math.max(box.top, other.top)
      if (across > 1 && down > 1 && isApart(thing, things[next])) found.push(`${what(thing)} lies over ${what(things[next])}`)
    }
    const place = thing.parentElement?.closest('td, th, li, .card, dialog, form')
    const around = place?.getBoundingClientRect()
    if (place && around && (box.right > around.right + 1 || box.left < around.left - 1)) found.push(`${what(thing)} reaches out of ${what(place)}`)
  })
  if (document.documentElement.scrollWidth > innerWidth) found.push('the page is wider than the screen')
  return found
}

/** Whether something paints outside the row that it is in. @param {import('playwright-core').Page} page @param {import('playwright-core').Locator} thing */
export async function inkOutside(page, thing) {
  const row = thing.locator('xpath=ancestor::tr')
  await row.scrollIntoViewIfNeeded()
  const box = await row.boundingBox()
  const { height, width } = /** @type {{ width: number, height: number }} */ (page.viewportSize())
  if (!box) throw new Error('the row is not shown')
  const parts = [
    { x: 0, y: 0, width, height: box.y },
    { x: 0, y: box.y + box.height, width, height: height - box.y - box.height },
  ].filter((part) => part.height >= 1)
  const shots = () => Promise.all(parts.map((clip) => page.screenshot({ clip, animations: 'disabled' })))
  const shown = await shots()
  await thing.evaluate((element) => (/** @type {HTMLElement} */ (element).style.visibility = 'hidden'))
  const hidden = await shots()
  return shown.some((shot, at) => !shot.equals(hidden[at]))
}
