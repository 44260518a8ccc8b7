// What meets on its way: answers, streams and changes of mind.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { codes } from '../../src/index.ts';
import {
  END,
  FAILED,
  HISTORY_PAGE,
  LAGGED,
  LANE,
  PUBLISH_WITH,
  PUBLISHED_ONCE,
  READ_HISTORY,
  SUBSCRIBE_FROM,
  SUBSCRIBED,
  TURN,
  UNSUBSCRIBE,
} from '../../src/wire/frames.ts';
import { at, connected, FakeServer, header, offsets, place, take, text, until } from './fake.ts';

test('a subscription that was given up before its answer came is ended, and its stream is stopped', async () => {
  const [client, connection] = await connected();
  const subscription = client.subscribe('c');
  const { request } = await connection.wish();
  subscription.unsubscribe();
  const early = connection.begin(5n, 'c', 1n);
  await client.rtt();
  assert.ok(!early.stopped, 'it may be wanted again');
  connection.send({ type: SUBSCRIBED, request, subscription: 5n, position: at(0n) });
  assert.equal((await connection.expect(UNSUBSCRIBE)).subscription, 5n);
  await until(() => early.stopped);
  await client.close();
});

test('who claims a channel anew while it is asked for is asked for by himself', async () => {
  const [client, connection] = await connected();
  const first = client.subscribe('c');
  const { request } = await connection.wish();
  first.unsubscribe();
  const second = client.subscribe('c', { latest: 3 });
  await client.rtt();
  assert.equal(connection.count(SUBSCRIBE_FROM), 0, 'not twice at a time');
  connection.send({ type: SUBSCRIBED, request, subscription: 5n, position: at(0n) });
  assert.equal((await connection.expect(UNSUBSCRIBE)).subscription, 5n);
  const again = await connection.expect(SUBSCRIBE_FROM);
  assert.deepEqual(again.start, { kind: 'latest', count: 3n });
  connection.send({ type: SUBSCRIBED, request: again.request, subscription: 6n, position: at(4n) });
  assert.equal(await second.ready, place(4));
  await client.close();
});

test('user code on the server that subscribes first is not in the way', async () => {
  const [client, connection] = await connected();
  const subscription = client.subscribe('c');
  const { request } = await connection.wish();
  connection.begin(9n, 'c', 3n).write(text(3));
  await client.rtt();
  connection.send({ type: FAILED, request, code: codes.ALREADY_SUBSCRIBED, reason: 'there' });
  assert.deepEqual(offsets([await take(subscription[Symbol.asyncIterator]())]), [3]);
  await client.close();
});

test('a channel whose end is on its way is asked for again after a pause', async t => {
  const [client, connection] = await connected();
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const subscription = client.subscribe('c');
  const { request } = await connection.wish();
  connection.send({ type: FAILED, request, code: codes.ALREADY_SUBSCRIBED, reason: 'still' });
  await client.rtt();
  t.mock.timers.tick(10_000);
  await connection.subscribed(6n, 2n);
  assert.equal(await subscription.ready, place(2));
  await client.close();
});

test('what the server gives unasked on the next connection begins where its reader is, or goes', async () => {
  const [client, connection, server] = await connected();
  const events = client.subscribe('global')[Symbol.asyncIterator]();
  (await connection.subscribed(1n, 0n)).write(text(1));
  await take(events);
  connection.break();
  const next = take(events);
  const [second] = await server.accept();
  second.welcome({ subscriptions: [{ subscription: 7n, channel: 'global', position: at(5n) }] });
  assert.equal((await second.expect(UNSUBSCRIBE)).subscription, 7n);
  const { request, start } = await second.expect(SUBSCRIBE_FROM);
  assert.deepEqual(start, { kind: 'afterOrOldest', position: at(1n) });
  const late = second.begin(7n, 'global', 6n);
  second.send({ type: SUBSCRIBED, request, subscription: 8n, position: at(1n) });
  second.begin(8n, 'global', 2n, { recovered: true });
  assert.equal((await next).type, 'break');
  await until(() => late.stopped);
  await client.close();
});

test('nothing that was read ahead is given after unsubscribing', async () => {
  const [client, connection] = await connected();
  const subscription = client.subscribe('c');
  (await connection.subscribed(1n, 0n)).together(text(1), { type: LAGGED, from: 2n, to: 3n });
  const events = subscription[Symbol.asyncIterator]();
  assert.deepEqual(offsets([await take(events)]), [1]);
  subscription.unsubscribe();
  assert.deepEqual(offsets([await take(events)]), ['end']);
  await client.close();
});

test('a stream of user code that is not read in time on a lane is over, and says why', async () => {
  const [client, connection] = await connected();
  const events = client.stream('prices')[Symbol.asyncIterator]();
  const lane = connection.open({ type: LANE, lane: 1n }, { type: TURN, subscription: 1n });
  lane.write(header(1n, 'prices', 1n, { source: 1 }));
  for (let n = 1; n <= 4; n++) lane.write(text(n, 'x'.repeat(100_000)));
  assert.equal((await connection.expect(UNSUBSCRIBE)).subscription, 1n);
  const found = [await take(events), await take(events), await take(events)];
  assert.deepEqual(offsets(found), [1, 2, 'end']);
  assert.equal((found[2] as { code: number }).code, codes.LAGGED);
  await client.close();
});

test('what came by datagram is given before what stands behind it on the stream', async () => {
  const [client, connection] = await connected();
  const events = client.subscribe('state')[Symbol.asyncIterator]();
  const { request } = await connection.wish();
  connection.datagram(9n, text(5));
  connection.send({ type: SUBSCRIBED, request, subscription: 9n, position: at(4n) });
  connection.open().together(header(9n, 'state', 5n, { delivery: 2 }), text(6), { type: END, code: 2, reason: '' });
  assert.deepEqual(offsets([await take(events), await take(events), await take(events)]), [5, 6, 'end']);
  await client.close();
});

test('requests that are answered make room in the line', async () => {
  const server = new FakeServer();
  const client = server.client();
  const [connection] = await server.accept();
  connection.welcome({ limits: { message: 1 << 24, frame: 1 << 25, subscriptions: 1 } });
  for (let round = 0; round < 3; round++) await Promise.all(Array.from({ length: 6000 }, () => client.rtt()));
  for (let offset = 1n; offset <= 2n; offset++) {
    const answer = client.publish('c', new Uint8Array(9 << 20));
    const { request } = await connection.expect(PUBLISH_WITH);
    connection.send({ type: PUBLISHED_ONCE, request, position: at(offset), level: 0, duplicate: false });
    assert.equal((await answer).position, place(offset));
  }
  await client.close();
});

test('a page that is larger than pages are ends the connection', async () => {
  const [client, connection] = await connected();
  const history = client.history('c');
  const { request } = await connection.expect(READ_HISTORY);
  connection.send({ type: HISTORY_PAGE, request, complete: true, count: 257 });
  await assert.rejects(history, { code: codes.LOST });
  assert.equal((await client.closed).code, codes.PROTOCOL_VIOLATION);
});

test('who waits for a connection waits through attempts that fail', async () => {
  const server = new FakeServer();
  server.down = 1;
  const client = server.client();
  const ready = client.ready();
  const [connection] = await server.accept();
  connection.welcome();
  assert.equal((await ready).status, 'connected');
  await client.close();
});
