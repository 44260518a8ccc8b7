// Subscriptions over a connection that lasts.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { codes, type SubscriptionEvent, TidingsError } from '../../src/index.ts';
import {
  END,
  FAILED,
  HEADER,
  LAGGED,
  LANE,
  OWN,
  SKIPPED,
  SUBSCRIBE_FROM,
  SUBSCRIBED,
  TURN,
  UNSUBSCRIBE,
} from '../../src/wire/frames.ts';
import { at, connected, EPOCH, FakeServer, header, offsets, place, take, text, until } from './fake.ts';

test('publications come as they are, and the subscription stands once it is ready', async () => {
  const [client, connection] = await connected();
  const subscription = client.subscribe('news');
  const stream = await connection.subscribed(3n, 4n);
  assert.equal(await subscription.ready, place(4));
  stream.write(text(5, 'hello'));
  const events = subscription[Symbol.asyncIterator]();
  const event = await take(events);
  assert.ok(event.type === 'publication' && event.message.kind === 'data');
  assert.equal(event.message.text(), 'hello');
  const { message: _, ...rest } = event;
  assert.deepEqual(rest, {
    type: 'publication',
    epoch: EPOCH,
    offset: 5n,
    position: place(5),
    time: 1_764_000_000_000,
    publisher: 'ada',
  });
  assert.equal(subscription.position, place(5));
  await client.close();
});

test('a stream is known by its header, whether it comes before or after the answer, and however many are silent', async () => {
  const [client, connection] = await connected();
  // Streams that say nothing hold up no other.
  for (let n = 0; n < 100; n++) connection.open();
  const [first, second] = [client.subscribe('first'), client.subscribe('second')];
  const asked = [await connection.wish(), await connection.wish()];
  connection.begin(2n, 'second', 1n).write(text(1, 'b'));
  connection.begin(1n, 'first', 1n).write(text(1, 'a'));
  for (const [index, { request }] of asked.entries()) {
    connection.send({ type: SUBSCRIBED, request, subscription: BigInt(index + 1), position: at(0n) });
  }
  const words = [];
  for (const subscription of [first, second]) {
    const event = await take(subscription[Symbol.asyncIterator]());
    assert.ok(event.type === 'publication' && event.message.kind === 'data');
    words.push(event.message.text());
  }
  assert.deepEqual(words, ['a', 'b']);
  await client.close();
});

test('what is missing is told, what is repeated or its own is not given', async () => {
  const [client, connection] = await connected();
  const events = client.subscribe('c')[Symbol.asyncIterator]();
  const stream = await connection.subscribed(1n, 10n);
  stream.write(text(11), text(11), { type: LAGGED, from: 12n, to: 14n }, { type: OWN, from: 15n, to: 16n });
  stream.write(text(17), { type: SKIPPED, from: 17n, to: 20n }, text(21), { type: END, code: 2, reason: 'enough' });
  const found: SubscriptionEvent[] = [];
  for (let next = await events.next(); !next.done; next = await events.next()) found.push(next.value);
  assert.deepEqual(offsets(found), [11, 'lagged', 17, 'skipped', 21, 'end']);
  assert.deepEqual(found[1], { type: 'lagged', from: 12n, to: 14n });
  assert.deepEqual(found[3], { type: 'skipped', from: 18n, to: 20n });
  assert.deepEqual(found[5], { type: 'end', code: codes.ENDED, reason: 'enough', retry: 'no' });
  await client.close();
});

test('a stream that passes over something in silence is not believed: the channel is asked for anew from there', async () => {
  const [client, connection] = await connected();
  const events = client.subscribe('c')[Symbol.asyncIterator]();
  const stream = await connection.subscribed(1n, 0n);
  stream.write(text(1), text(3));
  assert.deepEqual(offsets([await take(events)]), [1]);
  const next = take(events);
  await until(() => stream.stopped);
  const { request, start } = await connection.expect(SUBSCRIBE_FROM);
  assert.deepEqual(start, { kind: 'afterOrOldest', position: at(1n) });
  connection.send({ type: SUBSCRIBED, request, subscription: 2n, position: at(1n) });
  connection.begin(2n, 'c', 2n, { recovered: true }).write(text(2), text(3));
  const found = [await next, await take(events), await take(events)];
  assert.deepEqual(offsets(found), ['break', 2, 3]);
  assert.deepEqual(found[0], { type: 'break', before: place(1), after: place(1), missed: 0n });
  await client.close();
});

test('a refused subscription says so', async () => {
  const [client, connection] = await connected();
  const subscription = client.subscribe('secret');
  const { request } = await connection.wish();
  connection.send({ type: FAILED, request, code: 203, reason: 'not yours' });
  await assert.rejects(subscription.ready, {
    name: 'TidingsError',
    code: 203,
    message: 'not yours',
    retry: 'credentials',
  });
  assert.deepEqual(offsets([await take(subscription[Symbol.asyncIterator]())]), ['end']);
  assert.throws(() => client.subscribe('no spaces'), { code: codes.INVALID_CHANNEL });
  const again = client.subscribe('secret');
  await connection.subscribed(4n, 0n);
  await again.ready;
  await client.close();
});

test('leaving the loop unsubscribes, and the channel can be had again at once', async () => {
  const [client, connection] = await connected();
  const subscription = client.subscribe('c');
  const stream = await connection.subscribed(5n, 0n);
  stream.write(text(1), text(2));
  for await (const event of subscription) {
    assert.deepEqual(offsets([event]), [1]);
    break;
  }
  const again = client.subscribe('c');
  assert.equal((await connection.expect(UNSUBSCRIBE)).subscription, 5n);
  await until(() => stream.stopped);
  const next = await connection.subscribed(6n, 2n);
  next.write(text(3));
  assert.deepEqual(offsets([await take(again[Symbol.asyncIterator]())]), [3]);
  assert.throws(() => again[Symbol.asyncIterator](), { code: codes.ALREADY_SUBSCRIBED });
  await client.close();
});

test('a stream that comes after its subscription was given up is stopped', async () => {
  const [client, connection] = await connected();
  const subscription = client.subscribe('c');
  const { request } = await connection.wish();
  connection.send({ type: SUBSCRIBED, request, subscription: 5n, position: at(0n) });
  await subscription.ready;
  subscription.unsubscribe();
  assert.equal((await connection.expect(UNSUBSCRIBE)).subscription, 5n);
  const late = connection.begin(5n, 'c', 1n);
  await until(() => late.stopped);
  await client.close();
});

test('unsubscribing ends a loop that waits', async () => {
  const [client, connection] = await connected();
  const subscription = client.subscribe('c');
  await connection.subscribed(5n, 0n);
  const events = subscription[Symbol.asyncIterator]();
  const waiting = events.next();
  await subscription.ready;
  subscription.unsubscribe();
  const { value } = await waiting;
  assert.deepEqual(value, { type: 'end', code: codes.UNSUBSCRIBED, reason: 'unsubscribed', retry: 'no' });
  assert.equal((await events.next()).done, true);
  await client.close();
});

test('who is not iterated does not read, and who listens does', async () => {
  const [client, connection] = await connected();
  const lazy = client.subscribe('lazy');
  const unread = await connection.subscribed(1n, 0n);
  const eager = client.subscribe('eager');
  const read = await connection.subscribed(2n, 0n);
  const heard: bigint[] = [];
  const off = eager.on('publication', ({ offset }) => heard.push(offset));
  for (let n = 1; n <= 50; n++) {
    unread.write(text(n));
    read.write(text(n));
  }
  await until(() => heard.length === 50);
  assert.ok(unread.taken <= 2, `${unread.taken} chunks were read ahead`);
  off();
  read.write(text(51));
  const events = lazy[Symbol.asyncIterator]();
  for (let n = 1n; n <= 50n; n++) assert.equal(((await take(events)) as { offset: bigint }).offset, n);
  await until(() => eager.position === place(51));
  assert.equal(heard.length, 50);
  await client.close();
});

test('what the server gave unasked is taken up, or asked for anew where its reader wants to begin elsewhere', async () => {
  const server = new FakeServer();
  const client = server.client();
  const [connection] = await server.accept();
  const automatic = [
    { subscription: 1n, channel: 'global', position: at(5n) },
    { subscription: 2n, channel: 'user-ada', position: at(5n) },
  ];
  connection.begin(1n, 'global', 6n).write(text(6));
  connection.welcome({ subscriptions: automatic });
  assert.deepEqual((await client.ready()).subscriptions, ['global', 'user-ada']);
  const global = client.subscribe('global');
  assert.deepEqual(offsets([await take(global[Symbol.asyncIterator]())]), [6]);
  const mine = client.subscribe('user-ada', { since: place(3) });
  assert.equal((await connection.expect(UNSUBSCRIBE)).subscription, 2n);
  const { request, start } = await connection.expect(SUBSCRIBE_FROM);
  assert.deepEqual(start, { kind: 'afterOrOldest', position: at(3n) });
  // The one that was given up comes all the same.
  const orphan = connection.begin(2n, 'user-ada', 6n);
  connection.send({ type: SUBSCRIBED, request, subscription: 3n, position: at(3n) });
  connection.begin(3n, 'user-ada', 4n, { recovered: true }).write(text(4));
  assert.deepEqual(offsets([await take(mine[Symbol.asyncIterator]())]), [4]);
  assert.equal(mine.recovered, true);
  await until(() => orphan.stopped);
  assert.equal(connection.count(SUBSCRIBE_FROM), 0);
  await client.close();
});

test('a stored position that is too old is a break', async () => {
  const [client, connection] = await connected();
  const subscription = client.subscribe('c', { since: place(3, '0000000000000001') });
  const { request } = await connection.expect(SUBSCRIBE_FROM);
  connection.send({ type: SUBSCRIBED, request, subscription: 1n, position: at(7n) });
  connection.begin(1n, 'c', 8n).write(text(8));
  const events = subscription[Symbol.asyncIterator]();
  const found = [await take(events), await take(events)];
  assert.deepEqual(found[0], {
    type: 'break',
    before: place(3, '0000000000000001'),
    after: place(7),
    missed: undefined,
  });
  assert.deepEqual(offsets(found), ['break', 8]);
  const latest = client.subscribe('d', { latest: 2 });
  assert.deepEqual((await connection.expect(SUBSCRIBE_FROM)).start, { kind: 'latest', count: 2n });
  assert.throws(() => client.subscribe('e', { since: 'yesterday' }), TidingsError);
  latest.unsubscribe();
  client.subscribe('f', { since: 'oldest' });
  assert.deepEqual((await connection.expect(SUBSCRIBE_FROM)).start, {
    kind: 'afterOrOldest',
    position: at(0n, '0000000000000000'),
  });
  await client.close();
});

test('streams of user code are read by their name, one after the other', async () => {
  const [client, connection] = await connected();
  const stream = client.stream('prices');
  connection.begin(8n, 'prices', 1n, { source: 1 }).write(text(1), { type: END, code: 2, reason: 'closed' });
  const events = stream[Symbol.asyncIterator]();
  connection.begin(9n, 'prices', 1n, { source: 1 }).write(text(1));
  assert.deepEqual(offsets([await take(events), await take(events)]), [1, 'end']);
  assert.deepEqual(offsets([await take(client.stream('prices')[Symbol.asyncIterator]())]), [1]);
  await client.close();
});

test('streams that nobody can read are stopped', async () => {
  const [client, connection] = await connected();
  const streams = [
    connection.begin(1n, 'c', 1n, { source: 2 }),
    connection.begin(2n, 'c', 1n, { delivery: 3 }),
    connection.begin(3n, 'no spaces', 1n),
    connection.open(text(1)),
  ];
  // The head of a frame that is larger than headers are.
  const long = connection.open();
  long.raw(new Uint8Array([251, 0x88, 0x13]));
  await until(() => streams.every(stream => stream.stopped));
  await client.rtt();
  assert.ok(long.stopped, 'at once, and not when its time is over');
  await client.close();
});

test('a lane gives each its own, and who does not read its part is asked for anew', async () => {
  const [client, connection] = await connected();
  const [lazy, quick] = [client.subscribe('lazy'), client.subscribe('quick')];
  for (const id of [1n, 2n]) {
    const { request } = await connection.wish();
    connection.send({ type: SUBSCRIBED, request, subscription: id, position: at(0n) });
  }
  const lane = connection.open({ type: LANE, lane: 1n }, { type: TURN, subscription: 1n }, header(1n, 'lazy', 1n));
  const large = 'x'.repeat(100_000);
  lane.write(text(1, large), text(2, large), { type: TURN, subscription: 2n }, header(2n, 'quick', 1n), text(1));
  const fast = quick[Symbol.asyncIterator]();
  assert.deepEqual(offsets([await take(fast)]), [1]);
  lane.write(
    { type: TURN, subscription: 1n },
    text(3, large),
    text(4, large),
    { type: TURN, subscription: 2n },
    text(2),
  );
  assert.deepEqual(offsets([await take(fast)]), [2]);
  // The server is told at once, and asked anew only when its reader has read what there was.
  assert.equal((await connection.expect(UNSUBSCRIBE)).subscription, 1n);
  const slow = lazy[Symbol.asyncIterator]();
  assert.deepEqual(offsets([await take(slow), await take(slow)]), [1, 2]);
  assert.equal(connection.count(SUBSCRIBE_FROM), 0);
  const next = take(slow);
  const { request, start } = await connection.expect(SUBSCRIBE_FROM);
  assert.deepEqual(start, { kind: 'afterOrOldest', position: at(2n) });
  connection.send({ type: SUBSCRIBED, request, subscription: 3n, position: at(2n) });
  lane.write({ type: TURN, subscription: 3n }, header(3n, 'lazy', 3n, { recovered: true }), text(3));
  assert.deepEqual(offsets([await next, await take(slow)]), ['break', 3]);
  // A lane that is cut off cuts off its parts.
  lane.reset();
  const rest = take(fast);
  assert.equal((await connection.expect(SUBSCRIBE_FROM)).channel, 'quick');
  await client.close();
  assert.equal((await rest).type, 'end');
});

test('stream and datagrams together: the newest wins, and gaps are told', async () => {
  const [client, connection] = await connected();
  const subscription = client.subscribe('state');
  const { request } = await connection.wish();
  // Before its stream, twice, and out of order.
  for (const offset of [6, 5, 6]) connection.datagram(9n, text(offset));
  connection.datagram(77n, text(1));
  connection.send({ type: SUBSCRIBED, request, subscription: 9n, position: at(3n) });
  const stream = connection.open().together(header(9n, 'state', 4n, { delivery: 2 }), text(4));
  const events = subscription[Symbol.asyncIterator]();
  const found = [await take(events), await take(events), await take(events)];
  connection.datagram(9n, text(8));
  found.push(await take(events), await take(events));
  stream.write(text(7), text(9));
  found.push(await take(events));
  assert.deepEqual(offsets(found), [4, 5, 6, 'skipped', 8, 9]);
  assert.deepEqual(found[3], { type: 'skipped', from: 7n, to: 7n });
  // Of those that nobody reads the newest are kept.
  for (let offset = 10; offset <= 200; offset++) connection.datagram(9n, text(offset));
  // All are in by then: nothing but promises stands between.
  await new Promise(setImmediate);
  stream.write({ type: END, code: 2, reason: '' });
  const rest: SubscriptionEvent[] = [];
  for (let next = await events.next(); !next.done; next = await events.next()) rest.push(next.value);
  assert.deepEqual(offsets(rest.slice(0, 2)), ['skipped', 137]);
  assert.deepEqual(offsets(rest.slice(-2)), [200, 'end']);
  assert.equal(rest.length, 66);
  await client.close();
});

test('headers on control streams and other nonsense end the connection for good', async () => {
  const [client, connection] = await connected();
  connection.send({ ...header(1n, 'c', 1n), type: HEADER, epoch: EPOCH });
  assert.equal((await client.closed).code, codes.UNEXPECTED_FRAME);
  assert.equal(connection.told?.closeCode, codes.UNEXPECTED_FRAME);
  const [other, broken] = await connected();
  broken.control.raw(new Uint8Array([0]));
  assert.equal((await other.closed).code, codes.PROTOCOL_VIOLATION);
});
