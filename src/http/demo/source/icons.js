// The icons of the page, as strokes on a grid of 20 by 20.

const NAMESPACE = 'http://www.w3.org/2000/svg'

/** @type {Record<string, string>} */
const PATHS = {
  undo: 'M7 4 3.5 7.5 7 11M3.5 7.5H12a4.2 4.2 0 0 1 0 8.5H8',
  redo: 'm13 4 3.5 3.5L13 11m3.5-3.5H8A4.2 4.2 0 0 0 8 16h4',
  h1: 'M3 5v10M10 5v10M3 10h7M14 8.5l2.5-1.7V15',
  h2: 'M2.5 5v10M9 5v10M2.5 10H9M12.7 9a2.3 2.3 0 1 1 4.2 1.4L12.6 15h4.9',
  h3: 'M2.5 5v10M9 5v10M2.5 10H9M12.8 7.3h4.4l-2.5 2.9a2.4 2.4 0 1 1-2.2 3.9',
  bold: 'M6 4.5h4.6a2.7 2.7 0 0 1 0 5.4H6zM6 9.9h5.4a2.8 2.8 0 0 1 0 5.6H6z',
  italic: 'M8.5 4.5H14M6 15.5h5.5M11.5 4.5l-3 11',
  strike: 'M3.5 10h13M14 6.6c-.5-1.4-2-2.3-4-2.3-2.3 0-4 1.1-4 2.9 0 .9.4 1.6 1.1 2.1M6 13.2c.5 1.6 2 2.6 4.1 2.6 2.4 0 4.1-1.2 4.1-3.1 0-.5-.1-1-.3-1.4',
  code: 'M7 6 3 10l4 4M13 6l4 4-4 4',
  bullets: 'M8 5.5h9M8 10h9M8 14.5h9M3.8 5.5h.01M3.8 10h.01M3.8 14.5h.01',
  numbers: 'M8.5 5.5H17M8.5 10H17M8.5 14.5H17M3 4.2l1.2-.7v4M2.9 12.6a1.2 1.2 0 1 1 2.1.9L2.9 16h2.4',
  quote: 'M4 15.5V9.8C4 7 5.3 5.3 7.8 4.8M4 10h3.5v3.5H4M11.5 15.5V9.8c0-2.8 1.3-4.5 3.8-5M11.5 10H15v3.5h-3.5',
  block: 'M3.5 4.5h13v11h-13zM8 8l-2 2 2 2M12 8l2 2-2 2',
  share: 'M8.2 11.8l3.6-3.6M9 6.2l1.7-1.7a3.4 3.4 0 0 1 4.8 4.8L13.8 11M11 13.8l-1.7 1.7a3.4 3.4 0 0 1-4.8-4.8L6.2 9',
  connect: 'M7.5 2.5v4M12.5 2.5v4M5 6.5h10v3a5 5 0 0 1-10 0zM10 14.5v3',
  theme: 'M10 3.5v13a6.5 6.5 0 0 0 0-13zM10 3.5a6.5 6.5 0 0 0 0 13',
  down: 'm5.5 8 4.5 4.5L14.5 8',
  saved: 'm4.5 10.5 3.7 3.7 7.3-8',
  saving: 'M10 3.5a6.5 6.5 0 1 1-6.5 6.5',
  connecting: 'M10 3.5a6.5 6.5 0 1 1-6.5 6.5',
  offline: 'M3 3l14 14M2.5 8.2a11 11 0 0 1 3-2M9 5.1a11 11 0 0 1 8.5 3.1M5.3 11.2a7 7 0 0 1 3.2-1.8M12.8 10a7 7 0 0 1 1.9 1.2M10 15.5h.01',
  late: 'M10 3.5 17.5 16.5h-15zM10 8.5v3.7M10 14.3h.01',
  'read-only': 'M2.5 10S5.2 5.2 10 5.2 17.5 10 17.5 10 14.8 14.8 10 14.8 2.5 10 2.5 10zM10 7.9a2.1 2.1 0 1 0 0 4.2 2.1 2.1 0 0 0 0-4.2z',
  refused: 'M10 3.5a6.5 6.5 0 1 0 0 13 6.5 6.5 0 0 0 0-13zM5.5 5.5l9 9',
}

/** @param {string} name */
export function icon(name) {
  const svg = document.createElementNS(NAMESPACE, 'svg')
  svg.setAttribute('viewBox', '0 0 20 20')
  svg.setAttribute('aria-hidden', 'true')
  svg.setAttribute('data-icon', name)
  const path = document.createElementNS(NAMESPACE, 'path')
  path.setAttribute('d', PATHS[name])
  svg.append(path)
  return svg
}

/** Puts icons where the page's markup names them. */
export function fillIcons() {
  for (const place of document.querySelectorAll('[data-icon-name]')) {
    place.append(icon(/** @type {HTMLElement} */ (place).dataset.iconName ?? ''))
  }
}
