// The golden vectors of tests/vectors/frames.json, both ways and byte for byte.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { decodeDatagram } from '../../src/datagram.ts';
import { string, type WireFault, wireError } from '../../src/wire/codec.ts';
import { newCutter } from '../../src/wire/cutter.ts';
import {
  bodies,
  encode,
  type Frame,
  PING,
  PUBLICATION,
  PUBLISH,
  PUBLISH_ONCE,
  PUBLISH_WITH,
  PUBLISHED,
  PUBLISHED_ONCE,
  SUBSCRIBE,
  types,
} from '../../src/wire/frames.ts';
import { addRare } from '../../src/wire/rare.ts';
import { fromVector, hex, octets } from './vector.ts';

addRare();
// The frames that the client has no use for are made of the same parts.
const { request, channel, message } = bodies[PUBLISH_WITH];
const { position, level } = bodies[PUBLISHED_ONCE];
Object.assign(bodies, {
  [SUBSCRIBE]: { request, channel },
  [PUBLISH]: { request, channel, message },
  [PUBLISH_ONCE]: { request, channel, key: string, message },
  [PUBLISHED]: { request, position, level },
});

interface Entry {
  name: string;
  type: string;
  number: string;
  hex: string;
  value: Record<string, unknown>;
  limit: string;
  error: WireFault;
  subscription: string | null;
}

const root = new URL('../../../../tests/vectors/frames.json', import.meta.url);
const vectors = JSON.parse(readFileSync(root, 'utf8')) as Record<
  'frames' | 'widths' | 'invalid' | 'skipped' | 'datagrams',
  Entry[]
>;
const LIMIT = 1 << 20;

/** All frames of a stream that ends after these bytes, which come in chunks of this size. */
function cut(bytes: Uint8Array, size = bytes.length, limit = LIMIT): Frame[] {
  const cutter = newCutter(limit);
  const frames: Frame[] = [];
  for (let at = 0; at < bytes.length; at += size) {
    cutter.push(bytes.slice(at, at + size));
    for (let frame = cutter.next(); frame; frame = cutter.next()) frames.push(frame);
  }
  if (!cutter.empty) throw wireError('Truncated');
  return frames;
}

test('every frame decodes to its value and encodes to its bytes', () => {
  let inexact = 0;
  for (const entry of vectors.frames) {
    const [frame, ...others] = cut(octets(entry.hex));
    assert.ok(frame && !others.length, entry.name);
    assert.equal(frame.type, Number(entry.number), entry.name);
    const [value, exact] = fromVector(frame.type, entry.value);
    assert.deepEqual(frame, value, entry.name);
    if (exact) assert.equal(hex(encode(value)), entry.hex, entry.name);
    else inexact++;
  }
  // What is above 2^53 where nothing is: the edges of u64 are those of other fields.
  assert.ok(inexact < vectors.frames.length / 10, `${inexact} were not written`);
});

test('every type has a vector under its number', () => {
  const found = new Set(vectors.frames.map(entry => Number(entry.number)));
  assert.deepEqual(
    [...found].sort((a, b) => a - b),
    types().sort((a, b) => a - b),
  );
});

test('the limit counts type and body', () => {
  for (const entry of vectors.frames) {
    const bytes = octets(entry.hex);
    const cutter = newCutter(LIMIT);
    cutter.push(bytes);
    cutter.next();
    assert.equal(cut(bytes, bytes.length, cutter.size).length, 1, entry.name);
    assert.throws(() => cut(bytes, bytes.length, cutter.size - 1), wireError('TooLarge'), entry.name);
  }
});

test('all frames in one stream come out of any chunks', () => {
  const stream = octets(vectors.frames.map(entry => entry.hex).join(''));
  const wanted = vectors.frames.map(({ number, value }) => fromVector(Number(number), value)[0]);
  for (const size of [1, 2, 7, 1000, stream.length]) assert.deepEqual(cut(stream, size), wanted);
});

test('a reader takes any width of an integer and a writer the shortest', () => {
  for (const entry of vectors.widths) {
    const bytes = octets(entry.hex);
    for (const size of [1, bytes.length]) {
      const [frame] = cut(bytes, size);
      assert.deepEqual(frame, fromVector(Number(entry.number), entry.value)[0], entry.name);
      assert.ok(encode(frame!).length < bytes.length, entry.name);
    }
  }
});

test('invalid bytes give the stated error', () => {
  for (const entry of vectors.invalid) {
    const bytes = octets(entry.hex);
    for (const size of [1, bytes.length])
      assert.throws(() => cut(bytes, size, Number(entry.limit)), wireError(entry.error), entry.name);
  }
});

test('unknown types are skipped and what follows is read', () => {
  const ping: Frame = { type: PING, request: 5n };
  for (const entry of vectors.skipped) {
    const bytes = octets(entry.hex + hex(encode(ping)));
    for (const size of [1, bytes.length]) assert.deepEqual(cut(bytes, size), [ping], entry.name);
  }
});

test('datagrams give their publication or are passed over', () => {
  for (const entry of vectors.datagrams) {
    const found = decodeDatagram(octets(entry.hex));
    const wanted = entry.subscription && [BigInt(entry.subscription), fromVector(PUBLICATION, entry.value)[0]];
    assert.deepEqual(found ?? null, wanted, entry.name);
  }
});
