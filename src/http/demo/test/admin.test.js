// The parts of the page for administration that need no browser: event streams in pieces, numbers in words, ids in paths.

import assert from 'node:assert/strict'
import { test } from 'node:test'

import { inPath, sentence } from '../source/admin/api.js'
import { sentenceOf } from '../source/admin/dom.js'
import { EventStreamParser } from '../source/admin/event-stream.js'
import { breakable, count, counted, deadShare, duration, rfc3339, size, visible } from '../source/admin/words.js'

const STREAM = ': keep-alive\n\nevent: overview\ndata: {"a":1}\n\ndata: first\ndata:second\nid: 7\n\nevent: nothing\n\nevent: end\r\ndata: {}\r\n\r\n'
const EVENTS = [
  { event: 'overview', data: '{"a":1}' },
  { event: 'message', data: 'first\nsecond' },
  { event: 'end', data: '{}' },
]

test('events are read wherever a stream is cut', () => {
  for (let at = 0; at <= STREAM.length; at += 1) {
    const parser = new EventStreamParser()
    assert.deepEqual([...parser.take(STREAM.slice(0, at)), ...parser.take(STREAM.slice(at))], EVENTS, `cut at ${at}`)
  }
  const parser = new EventStreamParser()
  assert.deepEqual([...STREAM].flatMap((letter) => parser.take(letter)), EVENTS, 'letter by letter')
})

test('an event that never ends is given up', () => {
  const parser = new EventStreamParser()
  const piece = 'x'.repeat(300_000)
  assert.throws(() => {
    for (let n = 0; n < 4; n += 1) parser.take(piece)
  }, /too long/)
  const lines = new EventStreamParser()
  assert.throws(() => {
    for (let n = 0; n < 4; n += 1) lines.take(`data: ${piece}\n`)
  }, /too long/)
})

test('sizes are short and never larger than they are', () => {
  const words = { 0: '0 B', 999: '999 B', 1000: '1.0 KB', 1234: '1.2 KB', 99_960: '100 KB', 999_499: '999 KB', 999_500: '1.0 MB', 268_435_456: '268 MB', 5e15: '5000 TB' }
  for (const [bytes, expected] of Object.entries(words)) assert.equal(size(Number(bytes)), expected)
})

test('counts have as many words as they need', () => {
  assert.equal(count(1_048_576), '1,048,576')
  assert.equal(count(0.25), '0.3')
  assert.equal(count(12.4), '12')
  assert.equal(counted(1, 'connection'), '1 connection')
  assert.equal(counted(2, 'connection'), '2 connections')
})

test('a time is told by its two largest parts', () => {
  const words = { '-5': '0 s', 0: '0 s', 59.9: '59 s', 60: '1 min', 61: '1 min 1 s', 3600: '1 h', 3661: '1 h 1 min', 86_399: '23 h 59 min', 90_061: '1 d 1 h', 86_460: '1 d' }
  for (const [seconds, expected] of Object.entries(words)) assert.equal(duration(Number(seconds)), expected)
})

test('a page without anything weighs nothing', () => {
  assert.equal(deadShare({ liveBytes: 0, deadBytes: 0 }), 0)
  assert.equal(deadShare({ liveBytes: 1, deadBytes: 2 }), 67)
})

test('a moment of a field is a time that the server reads, and nothing is none', () => {
  assert.match(rfc3339('2026-11-29T12:00') ?? '', /^2026-11-\d\dT\d\d:00:00\.000Z$/)
  assert.equal(rfc3339(''), null)
  assert.equal(rfc3339('soon'), null)
})

test('an id is one part of a path, whatever is in it', () => {
  assert.equal(inPath('team-7/ä ?#'), 'team-7%2F%C3%A4%20%3F%23')
  assert.equal(inPath('query'), '%71uery')
  assert.equal(new URL(inPath('query'), 'http://host/api/pages/').pathname, '/api/pages/%71uery')
})

test('an id that browsers take for a step is not asked for', () => {
  for (const steps of ['.', '..']) assert.throws(() => inPath(steps), /cannot send the id/)
  assert.equal(inPath('...'), '...')
})

test('what cannot be seen is named, and what belongs to words and emoji is left', () => {
  assert.equal(visible('a\u202eb\u2069c\u200b\u{e0041}\u0007'), 'a[U+202E]b[U+2069]c[U+200B][U+E0041][U+0007]')
  for (const text of ['', 'دفتر یادداشت‌ها', '👩\u200d💻', 'é', '[U+202E]']) assert.equal(visible(text), text)
  assert.equal(String(sentenceOf`Send ${'a\u202e'} out of ${'b'}?`), 'Send a[U+202E] out of b?')
})

test('a letter that is joined of very many is broken, and no other one', () => {
  for (const text of ['', 'words', '👨🏽‍👩🏽‍👧🏽‍👦🏽', 'é'.repeat(50)]) assert.deepEqual(breakable(text), [text])
  for (const long of ['🧑' + '\u200d🧑'.repeat(30), 'ᄀ'.repeat(80), 'z' + '\u0353'.repeat(100)]) {
    const pieces = breakable(`a${long}b`)
    assert.ok(pieces.length > 10)
    assert.equal(pieces.join(''), `a${long}b`)
  }
})

test('what went wrong is a sentence', () => {
  assert.equal(sentence(new Error('the page was deleted')), 'The page was deleted.')
  assert.equal(sentence('Sure?'), 'Sure?')
})
