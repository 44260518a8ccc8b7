// Signing out and in, expiry, refused subscriptions, idle timeouts, pages that are left, and events as JSON.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { codes } from '../../src/index.ts';
import { newWatch } from '../../src/watch.ts';
import {
  FAILED,
  HISTORY_PAGE,
  LAGGED,
  PING,
  PRESENCE_PAGE,
  READ_HISTORY,
  READ_PRESENCE,
  REFRESH,
  REFRESHED,
  SUBSCRIBE_FROM,
  SUBSCRIBED,
} from '../../src/wire/frames.ts';
import { at, connected, EPOCH, FakeServer, place, take, text, until } from './fake.ts';

test('null of getToken is signed out: the client stops, says so, and connect starts it again', async () => {
  const server = new FakeServer();
  let token: string | null = null;
  let asked = 0;
  const client = server.client({
    getToken: () => {
      asked++;
      return token;
    },
  });
  const heard: number[] = [];
  client.on('disconnected', ({ error }) => heard.push(error.code));
  const first = client.subscribe('c');
  assert.equal((await client.closed).code, codes.SIGNED_OUT);
  await assert.rejects(first.ready, { code: codes.SIGNED_OUT, retry: 'no' });
  assert.equal(client.state.status === 'disconnected' && client.state.error.code, codes.SIGNED_OUT);
  assert.deepEqual([asked, heard], [1, [codes.SIGNED_OUT]]);

  token = 'ada';
  const ready = client.connect();
  assert.equal(client.state.status, 'connecting');
  const [connection, hello] = await server.accept();
  assert.equal(hello.token, 'ada');
  connection.welcome();
  assert.equal((await ready).status, 'connected');
  const second = client.subscribe('c');
  await connection.subscribed(1n, 0n);
  assert.equal(await second.ready, place(0));
  // Signing out while connected: the server ends the session, and there is no other token.
  token = null;
  connection.shut(codes.REVOKED, 'revoked');
  assert.equal((await client.closed).code, codes.SIGNED_OUT);
  token = 'bob';
  // Closing and starting at once, as a component that is mounted twice does.
  void client.connect();
  const closed = client.close();
  const again = client.connect();
  await closed;
  const accepted: (string | undefined)[] = [];
  while (accepted.at(-1) !== 'bob') {
    const [next, { token }] = await server.accept();
    accepted.push(token);
    next.welcome();
  }
  await again;
  await client.close();
});

test('the expiry of Welcome decides when the next token is asked for, also of one that is no JWT', async t => {
  t.mock.timers.enable({ apis: ['setTimeout', 'setInterval', 'Date'], now: 1_000_000 });
  const server = new FakeServer();
  let asked = 0;
  const answers = ['opaque 1', 'opaque 2', null];
  const client = server.client({ getToken: () => answers[asked++]! });
  const [connection, hello] = await server.accept();
  assert.equal(hello.token, 'opaque 1');
  connection.welcome({ expires: 1_010_000 });
  const state = await client.ready();
  assert.equal(state.expires, 1_010_000);
  await client.rtt();
  assert.equal(asked, 1);
  t.mock.timers.tick(8_000);
  const { request, token } = await connection.expect(REFRESH);
  assert.equal(token, 'opaque 2');
  connection.send({ type: REFRESHED, request, expires: 1_020_000 });
  await client.rtt();
  // The third says that nobody is signed in.
  t.mock.timers.tick(10_000);
  assert.equal((await client.closed).code, codes.SIGNED_OUT);
  assert.equal(asked, 3);
  assert.equal(connection.told?.closeCode, 0);
});

test('a restarted client asks for a token, and drops the answer to a request before', async () => {
  const server = new FakeServer();
  const answers: ((token: string | null) => void)[] = [];
  const client = server.client({ token: 'first', getToken: () => new Promise(resolve => answers.push(resolve)) });
  const hello = async (): Promise<string | undefined> => {
    const [connection, { token }] = await server.accept();
    connection.welcome();
    await client.ready();
    return token;
  };
  assert.equal(await hello(), 'first');
  await client.close();
  void client.connect();
  await until(() => answers.length === 1);
  // Given up before its token came.
  void client.close();
  void client.connect();
  await until(() => answers.length === 2);
  answers[1]!('second');
  assert.equal(await hello(), 'second');
  answers[0]!('late');
  await client.rtt();
  void client.close();
  void client.connect();
  await until(() => answers.length === 3);
  answers[2]!('third');
  assert.equal(await hello(), 'third');
  await client.close();
});

test('an attempt that was given up does not replace the token of the next, nor end the client', async t => {
  for (const late of ['late', null]) {
    const page = new EventTarget();
    for (const name of ['addEventListener', 'removeEventListener'] as const) {
      Object.defineProperty(globalThis, name, { configurable: true, value: page[name].bind(page) });
      t.after(() => Reflect.deleteProperty(globalThis, name));
    }
    const server = new FakeServer();
    const answers: ((token: string | null) => void)[] = [];
    const client = server.client({ getToken: () => new Promise(resolve => answers.push(resolve)) });
    await until(() => answers.length === 1);
    page.dispatchEvent(new Event('pagehide'));
    await until(() => client.state.status === 'connecting' && client.state.attempt === 1);
    page.dispatchEvent(new Event('pageshow'));
    await until(() => answers.length === 2);
    answers[1]!('new');
    const [first] = await server.accept();
    first.welcome();
    await client.ready();
    answers[0]!(late);
    await client.rtt();
    first.break();
    const [second, { token }] = await server.accept();
    assert.equal(token, 'new');
    second.welcome();
    await client.ready();
    await client.close();
  }
});

test('a client without getToken shows its token again after it was refused', async () => {
  const server = new FakeServer();
  const client = server.client({ token: 'mine' });
  for (const code of [codes.TOKEN_EXPIRED, codes.INVALID_TOKEN, codes.REVOKED]) {
    const [connection, { token }] = await server.accept();
    assert.equal(token, 'mine');
    connection.shut(code, 'refused');
    assert.equal((await client.closed).code, code);
    void client.connect();
  }
  const [connection] = await server.accept();
  connection.welcome();
  const refreshed = client.refresh('newer');
  const { request } = await connection.expect(REFRESH);
  connection.send({ type: REFRESHED, request });
  await refreshed;
  await client.close();
  void client.connect();
  const [, { token }] = await server.accept();
  assert.equal(token, 'newer');
  await client.close();
});

test('signing out ends the client, also where the connection changed before getToken answered', async t => {
  t.mock.timers.enable({ apis: ['setTimeout', 'setInterval', 'Date'], now: 1_000_000 });
  const server = new FakeServer();
  const answers: ((token: string | null) => void)[] = [];
  const client = server.client({ token: 'opaque', getToken: () => new Promise(resolve => answers.push(resolve)) });
  const [connection] = await server.accept();
  connection.welcome({ expires: 1_010_000 });
  await client.rtt();
  t.mock.timers.tick(8_000);
  await until(() => answers.length);
  connection.shut(codes.GOING_AWAY, 'restart');
  await until(() => client.state.status === 'connecting' && client.state.attempt === 1);
  t.mock.timers.tick(1_000);
  const [second] = await server.accept();
  second.welcome({ expires: 1_100_000 });
  await client.ready();
  answers[0]!(null);
  await until(() => client.state.status === 'disconnected');
  assert.equal((await client.closed).code, codes.SIGNED_OUT);
});

test('automatic subscriptions that were refused are on the state and an event each', async () => {
  const server = new FakeServer();
  const client = server.client();
  const heard: unknown[] = [];
  client.on('refused', refused => heard.push([client.state.status, refused]));
  const refused = [
    { channel: 'global', code: codes.TOO_MANY_CHANNELS, reason: 'full' },
    { channel: 'user-ada', code: codes.OVERLOADED, reason: 'busy' },
  ];
  const [connection] = await server.accept();
  connection.welcome({ refused });
  assert.deepEqual((await client.ready()).refused, refused);
  assert.deepEqual(
    heard,
    refused.map(one => ['connected', one]),
  );
  await client.close();
});

test('a short idle timeout is met by a ping at a third of it, of the smaller of both layers', async t => {
  for (const [idle, first] of [
    [3_000, 1_000],
    [10_000, 3_500],
    [90_000, 10_000],
    [Infinity, 10_000],
  ] as const) {
    const watch = newWatch(0);
    let now = 0;
    while (!watch.look(now, idle)) now += 500;
    assert.equal(now, first, String(idle));
  }
  t.mock.timers.enable({ apis: ['setTimeout', 'setInterval', 'Date'], now: 0 });
  for (const [welcome, peer] of [
    [3_000, undefined],
    [30_000, 3_000],
    [0, 3_000],
    [3_000, 0],
  ] as const) {
    const server = new FakeServer();
    const client = server.client({
      dial: {
        webtransport: async (url, options) => Object.assign(await server.dial(url, options), { idleTimeout: peer }),
      },
    });
    const [connection] = await server.accept();
    connection.welcome({ idleTimeout: welcome });
    await client.ready();
    await connection.expect(PING);
    await client.rtt();
    await connection.expect(PING);
    for (let pings = 0; pings < 3; pings++) {
      t.mock.timers.tick(500);
      t.mock.timers.tick(500);
      await connection.expect(PING);
      await new Promise(resolve => setImmediate(resolve));
    }
    await client.close();
  }
});

test('a page that is left closes its session, and one that comes back from the cache connects again', async t => {
  const page = new EventTarget();
  for (const name of ['addEventListener', 'removeEventListener'] as const) {
    Object.defineProperty(globalThis, name, { configurable: true, value: page[name].bind(page) });
    t.after(() => Reflect.deleteProperty(globalThis, name));
  }
  const [client, connection, server] = await connected();
  const subscription = client.subscribe('c');
  await connection.subscribed(1n, 0n);
  await subscription.ready;
  page.dispatchEvent(new Event('pagehide'));
  // Before the browser takes up anything else.
  await undefined;
  await undefined;
  assert.equal(connection.told?.closeCode, 0);
  await until(() => client.state.status === 'connecting' && client.state.attempt === 1);
  page.dispatchEvent(new Event('online'));
  assert.equal(client.state.status === 'connecting' && client.state.attempt, 1, 'nothing is tried meanwhile');
  page.dispatchEvent(new Event('pageshow'));
  const [second] = await server.accept();
  // Left while it connects: given up at once.
  page.dispatchEvent(new Event('pagehide'));
  await until(() => second.told);
  page.dispatchEvent(new Event('pageshow'));
  const [third] = await server.accept();
  third.welcome();
  const { request, start } = await third.expect(SUBSCRIBE_FROM);
  assert.deepEqual(start, { kind: 'afterOrOldest', position: at(0n) });
  third.send({ type: SUBSCRIBED, request, subscription: 2n, position: at(0n) });
  await client.close();
});

test('a page that comes back from the cache in a hidden tab connects again', async t => {
  const page = new EventTarget();
  const globals = {
    addEventListener: page.addEventListener.bind(page),
    removeEventListener: page.removeEventListener.bind(page),
    document: { hidden: true },
  };
  for (const [name, value] of Object.entries(globals)) {
    Object.defineProperty(globalThis, name, { configurable: true, value });
    t.after(() => Reflect.deleteProperty(globalThis, name));
  }
  const [client, , server] = await connected();
  page.dispatchEvent(new Event('pagehide'));
  await until(() => client.state.status === 'connecting' && client.state.attempt === 1);
  page.dispatchEvent(new Event('pageshow'));
  const [second] = await server.accept();
  second.welcome();
  await client.ready();
  await client.close();
});

test('events and results are JSON: bigints as digits, bytes in base64, errors with their code', async () => {
  const [client, connection] = await connected();
  const events = client.subscribe('c')[Symbol.asyncIterator]();
  const stream = await connection.subscribed(1n, 0n);
  stream.write(text(1, 'ä'), { type: LAGGED, from: 2n, to: 9_007_199_254_740_993n });
  const json = (value: unknown) => JSON.parse(JSON.stringify(value));
  assert.deepEqual(json({ nested: [await take(events)] }).nested[0], {
    type: 'publication',
    epoch: EPOCH,
    offset: '1',
    position: place(1),
    time: 1_764_000_000_000,
    publisher: 'ada',
    message: { kind: 'data', contentType: 'text/plain; charset=utf-8', base64: 'w6Q=' },
  });
  assert.deepEqual(json(await take(events)), { type: 'lagged', from: '2', to: '9007199254740993' });
  const history = client.history('c');
  const { request } = await connection.expect(READ_HISTORY);
  const kept = { epoch: EPOCH, first: 1n, last: 2n };
  connection.send({ type: HISTORY_PAGE, request, kept, complete: true, count: 1 }, text(2));
  const page = json(await history);
  assert.deepEqual([page.kept.last, page.publications[0].offset], ['2', '2']);
  const presence = client.presence('c');
  const asked = await connection.expect(READ_PRESENCE);
  const counts = { connections: 0, users: 0, members: [], complete: true };
  connection.send({ type: PRESENCE_PAGE, request: asked.request, position: at(4n), ...counts });
  assert.equal(json(await presence).offset, '4');
  const refused = client.history('c');
  const failed = await connection.expect(READ_HISTORY);
  connection.send({ type: FAILED, request: failed.request, code: 203, reason: 'no' });
  const error = { name: 'TidingsError', code: 203, message: 'no', retry: 'credentials' };
  assert.deepEqual(json(await refused.catch(error => error)), error);
  connection.send({ type: LAGGED, from: 0n, to: 0n });
  await until(() => client.state.status === 'disconnected');
  assert.equal(json(client.state).error.code, codes.UNEXPECTED_FRAME);
  assert.equal(json(await take(events)).type, 'end');
});
