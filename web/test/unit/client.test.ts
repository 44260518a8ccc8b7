// Connecting, requests, and what happens when connections break.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { codes, json, TidingsError } from '../../src/index.ts';
import {
  END,
  FAILED,
  GO_AWAY,
  HISTORY_PAGE,
  PRESENCE_PAGE,
  PUBLISH_WITH,
  PUBLISHED_ONCE,
  READ_HISTORY,
  READ_PRESENCE,
  REFRESH,
  REFRESHED,
  SUBSCRIBE_FROM,
  SUBSCRIBED,
} from '../../src/wire/frames.ts';
import { at, connected, EPOCH, FakeServer, place, take, text, until } from './fake.ts';

test('Hello says who comes and what it knows, and Welcome what there is', async () => {
  const server = new FakeServer();
  const client = server.client({ token: 'secret', name: 'test' });
  assert.deepEqual(client.state, { status: 'connecting', attempt: 0, error: undefined });
  const [connection, { type: _, ...hello }] = await server.accept();
  assert.deepEqual(hello, { version: 1, token: 'secret', client: 'test', features: ['lanes', 'datagram'] });
  connection.welcome();
  assert.deepEqual(await client.ready(), {
    status: 'connected',
    transport: 'webtransport',
    session: '0000000000000007',
    user: 'ada',
    server: 'fake',
    features: ['lanes', 'datagram'],
    limits: { message: 1000, frame: 2000, subscriptions: 512 },
    subscriptions: [],
    refused: [],
    idleTimeout: 30_000,
  });
  await client.close();
  assert.deepEqual(await client.closed, { code: codes.CLOSED, reason: 'closed' });
  assert.equal(connection.told?.closeCode, codes.CLOSED);
  await assert.rejects(client.ready(), { code: codes.CLOSED });
  await assert.rejects(client.publish('c', 'x'), { code: codes.CLOSED });
  await assert.rejects(client.subscribe('c').ready, { code: codes.CLOSED });
  assert.throws(() => new FakeServer() && new (client.constructor as typeof Object)('http://x'), {
    code: codes.INVALID_ARGUMENT,
  });
});

test('messages of every kind are published as they should be', async () => {
  const [client, connection] = await connected();
  const bytes = new Uint8Array([1, 2]);
  const utf8 = (words: string) => new TextEncoder().encode(words);
  const sent = [
    [client.publish('c', 'hi'), { kind: 'data', contentType: 'text/plain; charset=utf-8', bytes: utf8('hi') }],
    [client.publish('c', bytes), { kind: 'data', contentType: 'application/octet-stream', bytes }],
    [client.publish('c', json({ a: 1 })), { kind: 'data', contentType: 'application/json', bytes: utf8('{"a":1}') }],
    [client.publish('c', { kind: 'data', contentType: 'x/y', bytes }), { kind: 'data', contentType: 'x/y', bytes }],
    [
      client.publish('c', { kind: 'notification', text: 'n', timestamp: 5 }),
      { kind: 'notification', text: 'n', timestamp: 5 },
    ],
    [
      client.publish('c', { kind: 'announcement', text: 'a', timestamp: 6 }),
      { kind: 'announcement', text: 'a', timestamp: 6 },
    ],
  ] as const;
  let offset = 0n;
  for (const [answer, message] of sent) {
    const { type: _, request, ...asked } = await connection.expect(PUBLISH_WITH);
    assert.deepEqual(asked, { channel: 'c', echo: true, message });
    connection.send({ type: PUBLISHED_ONCE, request, position: at(++offset), level: 0, duplicate: false });
    assert.deepEqual(await answer, { position: place(offset), level: 0, duplicate: false });
  }
  const once = client.publish('c', 'x', { key: 'k', conflationKey: 'ck', echo: false });
  const { request, key, conflationKey, echo } = await connection.expect(PUBLISH_WITH);
  assert.deepEqual([key, conflationKey, echo], ['k', 'ck', false]);
  connection.send({ type: PUBLISHED_ONCE, request, position: at(9n), level: 0, duplicate: true });
  assert.deepEqual(await once, { position: place(9), level: 0, duplicate: true });
  await assert.rejects(client.publish('c', 'x'.repeat(1000)), { code: codes.MESSAGE_TOO_LARGE });
  const refused = client.publish('c', 'x');
  const last = await connection.expect(PUBLISH_WITH);
  connection.send({ type: FAILED, request: last.request, code: 1234, reason: 'no' });
  await assert.rejects(refused, { code: 1234, retry: 'no' });
  await client.close();
});

test('history, presence and refresh', async () => {
  const [client, connection] = await connected();
  const history = client.history('c', { from: place(1), limit: 2, reverse: true });
  const asked = await connection.expect(READ_HISTORY);
  assert.deepEqual(asked.query, { from: at(1n), limit: 2n, reverse: true });
  const kept = { epoch: EPOCH, first: 1n, last: 9n };
  connection.send({ type: HISTORY_PAGE, request: asked.request, kept, complete: true, count: 2 }, text(3), text(2));
  const page = await history;
  assert.deepEqual(page.kept, { epoch: EPOCH, first: 1n, last: 9n });
  assert.deepEqual(
    [page.publications.map(({ offset }) => offset), page.next, page.complete],
    [[3n, 2n], place(2), true],
  );

  const presence = client.presence('c', { limit: 5 });
  const who = await connection.expect(READ_PRESENCE);
  assert.equal(who.limit, 5n);
  const counts = { connections: 2, users: 1 };
  const members = [{ id: '0000000000000001', user: 'ada' }, { id: '0000000000000002' }];
  connection.send({ type: PRESENCE_PAGE, request: who.request, position: at(4n), ...counts, members, complete: true });
  const attendance = await presence;
  assert.deepEqual(attendance.members, [{ id: '0000000000000001', user: 'ada' }, { id: '0000000000000002' }]);
  const publication = { epoch: EPOCH, position: '', time: 0 };
  const change = {
    joined: [{ id: '03' }],
    left: [{ id: '0000000000000001' }],
    connections: 2,
    users: 0,
    complete: true,
  };
  attendance.apply({ ...publication, offset: 4n, message: { kind: 'presence', ...change } });
  assert.equal(attendance.members.length, 2, 'known already');
  attendance.apply({ ...publication, offset: 6n, message: { kind: 'presence', ...change } });
  assert.deepEqual([attendance.members, attendance.offset], [[{ id: '0000000000000002' }, { id: '03' }], 6n]);

  const refreshed = client.refresh('new');
  const { request, token } = await connection.expect(REFRESH);
  assert.equal(token, 'new');
  connection.send({ type: REFRESHED, request, expires: 99 });
  assert.equal(await refreshed, 99);
  assert.ok((await client.rtt()) >= 0);
  await client.close();
});

test('after a break it comes back, with exactly what was missed and no word twice', async () => {
  const [client, connection, server] = await connected();
  const states: string[] = [];
  client.on('connecting', ({ attempt, error }) => states.push(`connecting ${attempt} ${error?.code}`));
  client.on('connected', ({ status }) => states.push(status));
  const subscription = client.subscribe('c');
  const events = subscription[Symbol.asyncIterator]();
  (await connection.subscribed(1n, 0n)).write(text(1), text(2));
  await take(events);
  await take(events);
  server.down = 1;
  const next = take(events);
  connection.break();
  const [second, hello] = await server.accept();
  assert.equal(hello.token, undefined);
  second.welcome();
  const { request, start } = await second.expect(SUBSCRIBE_FROM);
  assert.deepEqual(start, { kind: 'afterOrOldest', position: at(2n) });
  second.begin(1n, 'c', 3n, { recovered: true }).write(text(3));
  second.send({ type: SUBSCRIBED, request, subscription: 1n, position: at(2n) });
  assert.deepEqual(await next, { type: 'break', before: place(2), after: place(2), missed: 0n });
  assert.equal(((await take(events)) as { offset: bigint }).offset, 3n);
  assert.deepEqual(states.splice(0), ['connecting 1 -1', 'connecting 2 -1', 'connected']);
  // It counts from the last break.
  second.break();
  await server.accept();
  assert.deepEqual(states, ['connecting 1 -1']);
  await client.close();
});

test('what the server does not have any more is told as a break', async () => {
  const [client, connection, server] = await connected();
  const events = client.subscribe('c')[Symbol.asyncIterator]();
  (await connection.subscribed(1n, 5n)).write(text(6));
  await take(events);
  let live = connection;
  for (const [epoch, offset, missed] of [
    [EPOCH, 8n, 2n],
    ['0000000000000001', 3n, undefined],
  ] as const) {
    const next = take(events);
    live.break();
    const [again] = await server.accept();
    again.welcome();
    const { request } = await again.expect(SUBSCRIBE_FROM);
    again.send({ type: SUBSCRIBED, request, subscription: 1n, position: at(offset, epoch) });
    again.begin(1n, 'c', offset + 1n, { epoch });
    const found = await next;
    assert.ok(found.type === 'break');
    assert.deepEqual([found.after, found.missed], [place(offset, epoch), missed]);
    live = again;
  }
  await client.close();
});

test('a request whose connection breaks is not known to be done; with a key it is sent again, once it can be', async () => {
  const [client, connection, server] = await connected();
  const plain = client.publish('c', 'x');
  const keyed = client.publish('c', 'y', { key: 'k' });
  assert.equal((await connection.expect(PUBLISH_WITH)).key, undefined);
  assert.equal((await connection.expect(PUBLISH_WITH)).key, 'k');
  connection.break();
  await assert.rejects(plain, { code: codes.LOST, message: /whether it was done is not known/ });
  const waiting = client.publish('c', 'z');
  const [second] = await server.accept();
  second.welcome();
  const again = await second.expect(PUBLISH_WITH);
  assert.equal(again.key, 'k');
  second.send({ type: PUBLISHED_ONCE, request: again.request, position: at(1n), level: 0, duplicate: true });
  assert.equal((await keyed).duplicate, true);
  const late = await second.expect(PUBLISH_WITH);
  assert.equal(late.key, undefined);
  second.send({ type: PUBLISHED_ONCE, request: late.request, position: at(2n), level: 0, duplicate: false });
  assert.equal((await waiting).position, place(2));
  assert.equal(second.count(PUBLISH_WITH), 0, 'the other is not sent twice');
  await client.close();
});

test('what is no message harms nobody, also where it waited for a connection', async () => {
  const server = new FakeServer();
  const client = server.client();
  const none = client.publish('c', { any: 'value' } as never);
  const some = client.publish('c', 'x');
  const [connection] = await server.accept();
  connection.welcome();
  await assert.rejects(none, TidingsError);
  const { request } = await connection.expect(PUBLISH_WITH);
  connection.send({ type: PUBLISHED_ONCE, request, position: at(1n), level: 0, duplicate: false });
  assert.equal((await some).position, place(1));
  await client.close();
});

test('the line has an end', async () => {
  const client = new FakeServer().client();
  const answers = Array.from({ length: 16_385 }, () => client.publish('c', 'x').catch(({ code }) => code));
  assert.equal(await answers.at(-1), codes.OVERLOADED);
  await client.close();
  assert.equal(await answers[0], codes.CLOSED);
  const other = new FakeServer().client();
  const large = new Uint8Array(9 << 20);
  const first = other.publish('c', large).catch(({ code }) => code);
  await assert.rejects(other.publish('c', large), { code: codes.OVERLOADED });
  await other.close();
  assert.equal(await first, codes.CLOSED);
});

test('the code decides who comes back', async () => {
  for (const code of [codes.ENDED, codes.PROTOCOL_VIOLATION, codes.INVALID_TOKEN, 1500, 150]) {
    const [client, connection] = await connected({ token: 'x' });
    const events = client.subscribe('c')[Symbol.asyncIterator]();
    connection.shut(code, 'go');
    assert.deepEqual(await client.closed, { code, reason: 'go' });
    assert.deepEqual(client.state.status, 'disconnected');
    const event = await take(events);
    assert.ok(event.type === 'end');
    assert.equal(event.code, code);
  }
  for (const code of [codes.OVERLOADED, codes.GOING_AWAY, 999, 2500, 3001]) {
    const [client, connection, server] = await connected();
    connection.shut(code, 'later');
    await server.accept();
    assert.equal(client.state.status === 'connecting' && client.state.error?.code, code);
    await client.close();
  }
});

test('a server that goes away is followed by another connection, and its streams by others', async () => {
  const [client, connection, server] = await connected();
  const events = client.subscribe('c')[Symbol.asyncIterator]();
  const stream = await connection.subscribed(1n, 0n);
  connection.send({ type: GO_AWAY, code: codes.GOING_AWAY, grace: 60_000 });
  stream.write(text(1), { type: END, code: codes.GOING_AWAY, reason: 'bye' });
  // It is not refused: the next connection asks.
  const late = client.subscribe('late');
  const asked = await connection.expect(SUBSCRIBE_FROM);
  connection.send({ type: FAILED, request: asked.request, code: codes.GOING_AWAY, reason: 'bye' });
  await take(events);
  const next = take(events);
  connection.shut(codes.GOING_AWAY, 'bye');
  const [second] = await server.accept();
  second.welcome();
  const { request, start } = await second.expect(SUBSCRIBE_FROM);
  assert.deepEqual(start, { kind: 'afterOrOldest', position: at(1n) });
  second.send({ type: SUBSCRIBED, request, subscription: 1n, position: at(1n) });
  second.begin(1n, 'c', 2n, { recovered: true });
  assert.equal((await next).type, 'break');
  await second.subscribed(2n, 0n);
  assert.equal(await late.ready, place(0));
  await client.close();
});

test('other credentials are asked for when they are wanted, and only then', async () => {
  const server = new FakeServer();
  let asked = 0;
  const client = server.client({ token: 'first', getToken: async () => `token ${++asked}` });
  const [first, hello] = await server.accept();
  assert.equal(hello.token, 'first');
  first.shut(codes.TOKEN_EXPIRED, 'old');
  const [second, { token }] = await server.accept();
  assert.equal(token, 'token 1');
  second.welcome();
  await client.ready();
  second.break();
  assert.equal((await server.accept())[1].token, 'token 1', 'it lasts');
  await client.close();

  const refused = server.client({ token: 'x' });
  const [only] = await server.accept();
  only.shut(codes.UNAUTHENTICATED, 'who are you');
  assert.deepEqual(await refused.closed, { code: 200, reason: 'who are you' });
  await assert.rejects(refused.ready(), { code: 200, retry: 'credentials' });

  let failures = 2;
  const patient = server.client({
    getToken: () => {
      if (failures-- > 0) throw new Error('no network');
      return 'late';
    },
  });
  const errors: string[] = [];
  patient.on('connecting', ({ error }) => error && errors.push(error.message));
  assert.equal((await server.accept())[1].token, 'late');
  assert.deepEqual(errors, ['no token: no network', 'no token: no network']);
  await patient.close();
});

test('closing in the middle of everything leaves nothing behind', async () => {
  const server = new FakeServer();
  const dialing = server.client({ dial: { webtransport: () => new Promise(() => {}) } });
  await dialing.close();
  const greeting = server.client();
  const [connection] = await server.accept();
  await greeting.close();
  await until(() => connection.told);
  server.down = 1000;
  const waiting = server.client();
  await until(() => waiting.state.status === 'connecting' && waiting.state.attempt > 0);
  await waiting.close();
  server.down = 0;
  const inside = server.client();
  inside.on('connected', () => inside.close());
  const [last] = await server.accept();
  last.welcome();
  await inside.closed;
  assert.equal(last.told?.closeCode, 0);
});

test('an attempt has an end', async () => {
  const server = new FakeServer();
  const client = server.client({ deadline: 20 });
  const [silent] = await server.accept();
  await until(() => silent.told);
  await until(() => client.state.status === 'connecting' && client.state.error);
  assert.match((client.state as { error: Error }).error.message, /no connection in time/);
  await client.close();
});
