// Properties of the codec.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { TidingsError } from '../../src/codes.ts';
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
import { addRare } from '../../src/wire/rare.ts';

// Plain objects, as those that are read.
const record = <T>(model: { [K in keyof T]: fc.Arbitrary<T[K]> }) => fc.record(model, { noNullPrototype: true });
/** The same with fields that may be absent. */
const partial = <T, U>(model: { [K in keyof T]: fc.Arbitrary<T[K]> }, more: { [K in keyof U]: fc.Arbitrary<U[K]> }) =>
  fc
    .tuple(record(model), fc.record(more, { noNullPrototype: true, requiredKeys: [] }))
    .map(([some, others]) => ({ ...some, ...others }));
const u64 = fc.oneof(fc.bigInt({ min: 0n, max: 600n }), fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }));
const number = fc.oneof(fc.nat(600), fc.maxSafeNat());
const digits = u64.map(value => value.toString(16).padStart(16, '0'));
const u8 = fc.integer({ min: 0, max: 255 });
const u16 = fc.integer({ min: 0, max: 65_535 });
const text = fc.string({ unit: 'binary' });
const position = record({ epoch: digits, offset: u64 });
const members = fc.array(partial({ id: digits }, { user: text }));
const kind = <K extends string>(name: K) => fc.constant(name);
const message = fc.oneof(
  record({ kind: kind('notification'), text, timestamp: number }),
  record({ kind: kind('announcement'), text, timestamp: number }),
  record({ kind: kind('data'), contentType: text, bytes: fc.uint8Array({ maxLength: 400 }) }),
  record({
    kind: kind('presence'),
    joined: members,
    left: members,
    connections: number,
    users: number,
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
  partial({ type: type(HELLO), version: u16, client: text, features: fc.array(text) }, { token: text }),
  partial(
    {
      type: type(WELCOME),
      session: digits,
      server: text,
      features: fc.array(text),
      limits: record({ message: number, frame: number, subscriptions: number }),
      subscriptions: fc.array(record({ subscription: u64, channel: text, position })),
      idleTimeout: number,
      refused: fc.array(record({ channel: text, code: fc.integer({ min: 0, max: 0xffffffff }), reason: text })),
    },
    { user: text, expires: number },
  ),
  record({ type: type(SUBSCRIBE_FROM), request: u64, channel: text, start }),
  partial(
    { type: type(PUBLISH_WITH), request: u64, channel: text, echo: fc.boolean(), message },
    { key: text, conflationKey: text },
  ),
  partial(
    { type: type(HISTORY_PAGE), request: u64, complete: fc.boolean(), count: number },
    { kept: record({ epoch: digits, first: u64, last: u64 }) },
  ),
  partial(
    {
      type: type(PRESENCE_PAGE),
      request: u64,
      connections: number,
      users: number,
      members,
      complete: fc.boolean(),
    },
    { position },
  ),
  record({
    type: type(HEADER),
    subscription: u64,
    source: u8,
    name: text,
    epoch: digits,
    first: u64,
    recovered: fc.boolean(),
    delivery: u8,
  }),
  partial({ type: type(PUBLICATION), offset: u64, time: number, message }, { publisher: text }),
  record({ type: type(LAGGED), from: u64, to: u64 }),
);

addRare();

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
      assert.ok(error instanceof TidingsError, String(error));
    }
  });
  fc.assert(property, { numRuns: 1000 });
});

test('bytes that were given out are not those of the stream', () => {
  const bytes = encode({
    type: PUBLICATION,
    offset: 1n,
    time: 2,
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
