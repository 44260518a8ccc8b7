// Properties of the codec.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { WireError } from '../../src/wire/codec.ts';
import { newCutter } from '../../src/wire/cutter.ts';
import {
  encode,
  type Frame,
  HEADER,
  HELLO,
  HISTORY_PAGE,
  LAGGED,
  PRESENCE_PAGE,
  PUBLICATION,
  PUBLISH_WITH,
  SUBSCRIBE_FROM,
  WELCOME,
} from '../../src/wire/frames.ts';

// Plain objects, as those that are read.
const record = <T>(model: { [K in keyof T]: fc.Arbitrary<T[K]> }) => fc.record(model, { noNullPrototype: true });
const u64 = fc.oneof(fc.bigInt({ min: 0n, max: 600n }), fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }));
const u8 = fc.integer({ min: 0, max: 255 });
const u16 = fc.integer({ min: 0, max: 65_535 });
const text = fc.string({ unit: 'binary' });
const optional = <T>(value: fc.Arbitrary<T>) => fc.option(value, { nil: undefined });
const position = record({ epoch: u64, offset: u64 });
const members = fc.array(record({ id: u64, user: optional(text) }));
const kind = <K extends string>(name: K) => fc.constant(name);
const message = fc.oneof(
  record({ kind: kind('notification'), text, timestamp: u64 }),
  record({ kind: kind('announcement'), text, timestamp: u64 }),
  record({ kind: kind('data'), contentType: text, bytes: fc.uint8Array({ maxLength: 400 }) }),
  record({
    kind: kind('presence'),
    joined: members,
    left: members,
    connections: u64,
    users: u64,
    complete: fc.boolean(),
  }),
);
const start = fc.oneof(
  record({ kind: kind('head') }),
  record({ kind: kind('after'), position }),
  record({ kind: kind('latest'), count: u64 }),
  record({ kind: kind('afterOrOldest'), position }),
);
const type = <T extends number>(number: T) => fc.constant(number);
const frame: fc.Arbitrary<Frame> = fc.oneof(
  record({ type: type(HELLO), version: u16, token: optional(text), client: text, features: fc.array(text) }),
  record({
    type: type(WELCOME),
    session: u64,
    user: optional(text),
    server: text,
    features: fc.array(text),
    limits: record({ message: u64, frame: u64, subscriptions: u64 }),
    subscriptions: fc.array(record({ subscription: u64, channel: text, position })),
  }),
  record({ type: type(SUBSCRIBE_FROM), request: u64, channel: text, start }),
  record({
    type: type(PUBLISH_WITH),
    request: u64,
    channel: text,
    key: optional(text),
    conflationKey: optional(text),
    echo: fc.boolean(),
    message,
  }),
  record({
    type: type(HISTORY_PAGE),
    request: u64,
    kept: optional(record({ epoch: u64, first: u64, last: u64 })),
    complete: fc.boolean(),
    count: u64,
  }),
  record({
    type: type(PRESENCE_PAGE),
    request: u64,
    position: optional(position),
    connections: u64,
    users: u64,
    members,
    complete: fc.boolean(),
  }),
  record({
    type: type(HEADER),
    subscription: u64,
    source: u8,
    name: text,
    epoch: u64,
    first: u64,
    recovered: fc.boolean(),
    delivery: u8,
  }),
  record({ type: type(PUBLICATION), offset: u64, time: u64, publisher: optional(text), message }),
  record({ type: type(LAGGED), from: u64, to: u64 }),
);

test('what is written is read, split at any bytes', () => {
  const property = fc.property(fc.array(frame), fc.array(fc.nat(2000)), (frames, cuts) => {
    const stream = Buffer.concat(frames.map(encode));
    const cutter = newCutter(1 << 20);
    const found: Frame[] = [];
    const places = [...cuts.filter(at => at < stream.length), stream.length].sort((a, b) => a - b);
    let from = 0;
    for (const to of places) {
      cutter.push(new Uint8Array(stream.subarray(from, to)));
      for (let next = cutter.next(); next; next = cutter.next()) found.push(next);
      from = to;
    }
    assert.deepEqual(found, frames);
    assert.ok(cutter.empty);
  });
  fc.assert(property, { numRuns: 300 });
});

test('perturbed bytes give frames or a fault, never anything else', () => {
  const property = fc.property(frame, fc.array(fc.tuple(fc.nat(), u8)), (whole, changes) => {
    const bytes = encode(whole);
    for (const [at, byte] of changes) bytes[at % bytes.length] = byte;
    const cutter = newCutter(1 << 16);
    cutter.push(bytes);
    try {
      while (cutter.next());
    } catch (error) {
      assert.ok(error instanceof WireError, String(error));
    }
  });
  fc.assert(property, { numRuns: 1000 });
});

test('bytes that were given out are not those of the stream', () => {
  const bytes = encode({
    type: PUBLICATION,
    offset: 1n,
    time: 2n,
    publisher: undefined,
    message: { kind: 'data', contentType: '', bytes: new Uint8Array([7]) },
  });
  const cutter = newCutter(100);
  cutter.push(bytes);
  const given = cutter.next();
  bytes.fill(0);
  assert.ok(given?.type === PUBLICATION && given.message.kind === 'data');
  assert.deepEqual(given.message.bytes, new Uint8Array([7]));
  assert.equal(given.message.bytes.buffer.byteLength, 1);
});
