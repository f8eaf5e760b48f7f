// What editors and providers find in a browser, for those that look for it as they are loaded: import this before them.

import { JSDOM } from 'jsdom'
import WebSocket from 'ws'

const { window } = new JSDOM('<!doctype html><body></body>', { pretendToBeVisual: true, url: 'http://127.0.0.1/' })

const NAMES = [
  'Window', 'document', 'getSelection', 'getComputedStyle', 'requestAnimationFrame', 'cancelAnimationFrame', 'innerHeight', 'innerWidth',
  'localStorage', 'navigator', 'Node', 'Element', 'HTMLElement', 'Text', 'DocumentFragment', 'ShadowRoot', 'Range', 'Selection',
  'MutationObserver', 'DOMParser', 'XMLSerializer', 'Event', 'CustomEvent', 'KeyboardEvent', 'InputEvent'
]

const define = (name, value) => Object.defineProperty(globalThis, name, { value, configurable: true, writable: true })

define('window', window)
for (const name of NAMES) {
  const value = window[name]
  // What is called like a plain function wants its window.
  define(name, typeof value === 'function' && /^[a-z]/.test(name) ? value.bind(window) : value)
}

// In a browser, too, each message is a task of its own, and some editors need the end of a task to take in a change.
define('WebSocket', class extends WebSocket {
  constructor (url, protocols) { super(url, protocols, { allowSynchronousEvents: false }) }
})

// There is no layout here, and editors ask for it only to scroll and to draw.
const nowhere = () => ({ x: 0, y: 0, left: 0, right: 0, top: 0, bottom: 0, width: 0, height: 0 })
Range.prototype.getBoundingClientRect = nowhere
Range.prototype.getClientRects = () => []
