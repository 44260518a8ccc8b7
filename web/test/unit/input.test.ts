// What user code passes in, and is not valid: one kind of error, at once, and nothing is sent.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Client, codes, json, parsePosition, TidingsError } from '../../src/index.ts';
import { PUBLISH_WITH, SUBSCRIBE_FROM } from '../../src/wire/frames.ts';
import { connected, FakeServer, until } from './fake.ts';

// biome-ignore lint/suspicious/noExplicitAny: the types forbid all of it
type Any = any;

/** The error that a call throws or rejects with. */
async function failure(call: () => unknown): Promise<TidingsError> {
  try {
    await call();
  } catch (error) {
    assert.ok(error instanceof TidingsError, String(error));
    assert.equal(error.retry, 'no');
    return error;
  }
  throw new Error(`accepted: ${call}`);
}

const NO_STRINGS: Any[] = [
  42,
  5n,
  null,
  {},
  [],
  true,
  Symbol('x'),
  () => {},
  Object.create(null),
  new Date(),
  Number.NaN,
];
const NO_COUNTS: Any[] = [-1, 1.5, Number.NaN, Infinity, 5n, '5', null, {}, 2 ** 53, true, Symbol('x')];
const NO_OBJECTS: Any[] = [null, 'x', 42, true, () => {}];
const LONE = 'a\ud800b';

test('what cannot be published says which helper makes it a message', async () => {
  const [client, connection] = await connected();
  const circular: Any = {};
  circular.self = circular;
  const helper = (message: Any, words: RegExp, code: number = codes.INVALID_ARGUMENT) =>
    failure(() => client.publish('c', message, { key: 'k' })).then(error => {
      assert.match(error.message, words);
      assert.equal(error.code, code);
    });
  for (const value of [42, 5n, { a: 1 }, [], null, undefined, true, new Date(), () => {}, Symbol('x'), circular])
    await helper(value, /json\(value\)/);
  for (const value of [{ kind: 'x' }, { kind: 42 }, { text: 'x' }, new Map(), Promise.resolve('x')])
    await helper(value, /json\(value\)/);
  const buffer = new ArrayBuffer(2);
  for (const value of [
    buffer,
    new DataView(buffer),
    new Uint16Array(1),
    new SharedArrayBuffer(2),
    new Uint8ClampedArray(1),
  ])
    await helper(value, /new Uint8Array\(buffer\)/);
  await helper({ kind: 'presence', joined: [], left: [] }, /presence/, codes.RESERVED_MESSAGE);
  await helper(LONE, /surrogates/);
  for (const timestamp of NO_COUNTS) await helper({ kind: 'notification', text: 'x', timestamp }, /timestamp/);
  await helper({ kind: 'notification', text: 'x', timestamp: new Date() }, /timestamp/);
  for (const text of [...NO_STRINGS, undefined, LONE]) await helper({ kind: 'announcement', text }, /text/);
  for (const contentType of [...NO_STRINGS, undefined, LONE, ''])
    await helper({ kind: 'data', contentType, bytes: new Uint8Array(1) }, /contentType/);
  for (const bytes of [...NO_STRINGS, undefined, 'text', buffer])
    await helper({ kind: 'data', contentType: 'x/y', bytes }, /bytes/);
  assert.equal(connection.count(PUBLISH_WITH), 0);
  // From another realm, as in jsdom.
  const { runInNewContext } = await import('node:vm');
  void client.publish('c', runInNewContext('new Uint8Array([1])') as Uint8Array).catch(() => {});
  await connection.expect(PUBLISH_WITH);
  void client.publish('c', '\u{1f600}').catch(() => {});
  await connection.expect(PUBLISH_WITH);
  await client.close();
});

test('what JSON cannot say is refused, with its reason', async () => {
  const circular: Any = {};
  circular.self = circular;
  const thrower = {
    toJSON() {
      throw new Error('mine');
    },
  };
  for (const value of [undefined, () => {}, Symbol('x'), 5n, { deep: [1n] }, circular]) {
    assert.match((await failure(() => json(value))).message, /json/);
  }
  assert.match((await failure(() => json(thrower))).message, /mine/);
  for (const value of [null, 0, '', false, [], {}, LONE, { a: undefined }]) assert.ok(json(value).bytes.length > 0);
});

test('channels, keys, counts, positions and flags are checked before anything is sent', async () => {
  const [client, connection] = await connected();
  const calls = (channel: Any) => [
    () => client.publish(channel, 'x'),
    () => client.subscribe(channel),
    () => client.stream(channel),
    () => client.history(channel),
    () => client.presence(channel),
  ];
  for (const channel of [
    ...NO_STRINGS,
    undefined,
    '',
    'no spaces',
    'ä',
    LONE,
    'x'.repeat(256),
    ['c'],
    new String('c'),
  ]) {
    for (const call of calls(channel)) assert.equal((await failure(call)).code, codes.INVALID_CHANNEL);
  }
  const loose = client as Any;
  for (const options of NO_OBJECTS) {
    for (const call of ['subscribe', 'history', 'presence']) await failure(() => loose[call]('c', options));
    await failure(() => loose.publish('c', 'x', options));
  }
  for (const key of [...NO_STRINGS, '', LONE, 'x'.repeat(129), 'ä'.repeat(65)]) {
    assert.equal((await failure(() => client.publish('c', 'x', { key }))).code, codes.INVALID_KEY);
    assert.equal((await failure(() => client.publish('c', 'x', { conflationKey: key }))).code, codes.INVALID_KEY);
  }
  for (const flag of [0, 1, 'false', null, {}] as Any[]) {
    await failure(() => client.publish('c', 'x', { echo: flag }));
    await failure(() => client.history('c', { reverse: flag }));
  }
  for (const limit of NO_COUNTS) {
    await failure(() => client.history('c', { limit }));
    await failure(() => client.presence('c', { limit }));
    await failure(() => client.subscribe('c', { latest: limit }));
  }
  const epoch = '0000000000c0ffee';
  const positions: Any[] = [
    ...NO_STRINGS,
    '',
    'newest',
    `${epoch}:-1`,
    `${epoch}:1.5`,
    `${epoch}:`,
    `${epoch}:18446744073709551616`,
  ];
  positions.push(
    { epoch, offset: -1n },
    { epoch, offset: 1.5 },
    { epoch: 'x', offset: 1n },
    { epoch },
    { epoch, offset: 2n ** 64n },
  );
  for (const position of positions) {
    await failure(() => parsePosition(position));
    await failure(() => client.subscribe('c', { since: position }));
    await failure(() => client.history('c', { from: position }));
  }
  assert.match((await failure(() => client.subscribe('c', { since: 'oldest', latest: 1 }))).message, /since.*latest/);
  for (const listener of [undefined, null, 'x', {}, 42] as Any[]) await failure(() => client.on('connected', listener));
  for (const token of [...NO_STRINGS, undefined, '', LONE]) await failure(() => client.refresh(token));
  const secret = await failure(() => client.refresh('secret\ud800'));
  assert.doesNotMatch(secret.message, /secret/);
  assert.equal(connection.count(SUBSCRIBE_FROM), 0);
  assert.equal(parsePosition(`${epoch}:18446744073709551615`).offset, 2n ** 64n - 1n);
  await client.close();
});

test('addresses and options of a client are checked when it is made', async () => {
  const made = (options: Any) => failure(() => new Client('https://fake', options));
  for (const url of [
    ...NO_STRINGS,
    undefined,
    '',
    '/tidings',
    'http://fake',
    'wss://fake',
    'https://',
    'https://u:p@fake',
    'https://fake#x',
  ] as Any[])
    assert.doesNotMatch((await failure(() => new Client(url))).message, /u:p/);
  for (const options of NO_OBJECTS) await made(options);
  const hash = new Uint8Array(32);
  const hashes: Any[] = [
    '',
    'ab',
    'g'.repeat(64),
    'ab'.repeat(31),
    'ab'.repeat(33),
    '!',
    new Uint8Array(2),
    42,
    null,
    [1],
    {},
    undefined,
  ];
  for (const wrong of hashes) assert.match((await made({ certificateHashes: [hash, wrong] })).message, /32 bytes/);
  for (const wrong of ['ab'.repeat(32), hash, null, 42] as Any[]) await made({ certificateHashes: wrong });
  for (const time of [...NO_COUNTS, 2 ** 31]) {
    await made({ headStart: time });
    await made({ deadline: time });
  }
  for (const wrong of NO_STRINGS) {
    await made({ token: wrong });
    await made({ name: wrong });
    await made({ transport: wrong });
  }
  for (const transport of ['', 'quic', 'WebSocket']) await made({ transport });
  for (const wrong of [null, 'x', {}, 42, Promise.resolve('x')] as Any[]) {
    await made({ getToken: wrong });
    await made({ dial: { websocket: wrong } });
  }
  await made({ dial: 42 });
  new Client(new URL('https://fake/path?x=1'), { token: 't', certificateHashes: [hash, `${'AB:'.repeat(31)}AB`] });
});

test('a token source or a dial that gives something else ends the client, and is not asked again', async () => {
  const server = new FakeServer();
  for (const token of [undefined, '', 42, {}, { token: 'x' }, true, LONE] as Any[]) {
    let asked = 0;
    const client = server.client({
      getToken: () => {
        asked++;
        return token;
      },
    });
    const { code, reason } = await client.closed;
    assert.equal(code, codes.INVALID_ARGUMENT);
    assert.match(reason, /getToken/);
    assert.equal(asked, 1);
  }
  for (const opened of [undefined, null, {}, 'x'] as Any[]) {
    let dialed = 0;
    const dial = async () => {
      dialed++;
      return opened;
    };
    const client = server.client({ dial: { webtransport: dial } });
    assert.equal((await client.closed).code, codes.INVALID_ARGUMENT);
    assert.equal(dialed, 1);
  }
});

test('nothing is used before the first use, and a runtime without transports is an error that is not retried', async t => {
  const used: string[] = [];
  for (const name of [
    'setTimeout',
    'setInterval',
    'addEventListener',
    'document',
    'navigator',
    'location',
    'localStorage',
    'WebSocket',
    'WebTransport',
  ]) {
    const before = Object.getOwnPropertyDescriptor(globalThis, name);
    const value = before?.value ?? (typeof before?.get === 'function' ? undefined : before?.value);
    Object.defineProperty(globalThis, name, {
      configurable: true,
      get() {
        used.push(name);
        return value;
      },
    });
    t.after(() => {
      Reflect.deleteProperty(globalThis, name);
      if (before) Object.defineProperty(globalThis, name, before);
    });
  }
  const client = new Client('https://fake', { getToken: () => assert.fail('asked') });
  assert.deepEqual(client.state, { status: 'idle' });
  assert.deepEqual(used, []);
  Reflect.deleteProperty(globalThis, 'WebTransport');
  const states: string[] = [];
  client.on('disconnected', ({ error }) => states.push(error.message));
  const subscription = client.subscribe('c');
  await assert.rejects(client.ready(), {
    code: codes.UNSUPPORTED,
    retry: 'no',
    message: /no webtransport and no websocket/,
  });
  await assert.rejects(subscription.ready, { code: codes.UNSUPPORTED });
  await assert.rejects(client.publish('c', 'x'), { code: codes.UNSUPPORTED });
  assert.equal(states.length, 1);
  await until(() => client.state.status === 'disconnected');
  for (const transport of ['webtransport', 'websocket'] as const) {
    const one = new Client('https://fake', { transport });
    await assert.rejects(one.connect(), { code: codes.UNSUPPORTED });
  }
  const unused = new Client('https://fake');
  await unused.close();
  assert.deepEqual(await unused.closed, { code: codes.CLOSED, reason: 'closed' });
});
