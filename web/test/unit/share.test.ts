// Several subscriptions of one client to one channel: one stream.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { codes, type SubscriptionEvent } from '../../src/index.ts';
import { FAILED, SUBSCRIBE_FROM, SUBSCRIBED, UNSUBSCRIBE } from '../../src/wire/frames.ts';
import { at, connected, offsets, place, take, text, until } from './fake.ts';

test('a second subscription shares the stream, which ends with the last', async () => {
  const [client, connection] = await connected();
  const [one, two] = [client.subscribe('c'), client.subscribe('c')];
  const stream = await connection.subscribed(1n, 0n);
  const heard: bigint[] = [];
  two.on('publication', ({ offset }) => heard.push(offset));
  const events = one[Symbol.asyncIterator]();
  stream.write(text(1), text(2));
  assert.deepEqual(offsets([await take(events), await take(events)]), [1, 2]);
  await until(() => heard.length === 2);
  // A later one begins where the stream is.
  const three = client.subscribe('c');
  assert.equal(await three.ready, place(2));
  const late = three[Symbol.asyncIterator]();
  stream.write(text(3));
  assert.deepEqual(offsets([await take(late), await take(events)]), [3, 3]);
  assert.deepEqual([one.position, three.position], [place(3), place(3)]);
  const waiting = events.next();
  one.unsubscribe();
  one.unsubscribe();
  assert.equal((await waiting).value?.type, 'end');
  assert.equal((await events.next()).done, true);
  await late.return?.();
  assert.equal((await late.next()).done, true);
  stream.write(text(4));
  await until(() => heard.length === 4);
  assert.equal(connection.count(UNSUBSCRIBE), 0);
  assert.equal(connection.count(SUBSCRIBE_FROM), 0);
  two.unsubscribe();
  assert.equal((await connection.expect(UNSUBSCRIBE)).subscription, 1n);
  // Then it can be had anew.
  const again = client.subscribe('c', { latest: 1 });
  const { request } = await connection.expect(SUBSCRIBE_FROM);
  connection.send({ type: SUBSCRIBED, request, subscription: 2n, position: at(4n) });
  assert.equal(await again.ready, place(4));
  await client.close();
});

test('options that conflict are an error that says which, and equal ones share', async () => {
  const [client] = await connected();
  client.subscribe('head');
  client.subscribe('latest', { latest: 5 });
  client.subscribe('since', { since: place(3) });
  client.subscribe('oldest', { since: 'oldest' });
  client.subscribe('latest');
  client.subscribe('latest', { latest: 5 });
  client.subscribe('since', { since: { epoch: '0000000000c0ffee', offset: 3n } });
  client.subscribe('oldest', { since: 'oldest' });
  for (const [channel, options, words] of [
    ['head', { latest: 5 }, /head.*latest: 5/],
    ['head', { since: 'oldest' }, /head.*since: oldest/],
    ['latest', { latest: 6 }, /latest: 5.*latest: 6/],
    ['latest', { since: place(3) }, /latest: 5.*since/],
    ['since', { since: place(4) }, /since.*:3.*since.*:4/],
    ['oldest', { latest: 1 }, /oldest.*latest: 1/],
  ] as const) {
    assert.throws(() => client.subscribe(channel, options), { code: codes.ALREADY_SUBSCRIBED, message: words });
  }
  client.stream('head');
  client.stream('head');
  await client.close();
});

test('who is slower than another reader of its stream is told what it missed, and holds up nobody', async () => {
  const [client, connection] = await connected();
  const [quick, slow] = [client.subscribe('c'), client.subscribe('c')];
  const stream = await connection.subscribed(1n, 0n);
  const fast = quick[Symbol.asyncIterator]();
  for (let n = 1; n <= 300; n++) {
    stream.write(text(n));
    await take(fast);
  }
  const found: SubscriptionEvent[] = [];
  const events = slow[Symbol.asyncIterator]();
  while (slow.position !== place(300)) found.push(await take(events));
  assert.deepEqual(found[0], { type: 'lagged', from: 1n, to: 257n });
  assert.deepEqual(
    offsets(found.slice(1)),
    Array.from({ length: 43 }, (_, n) => 258 + n),
  );
  await client.close();
  assert.deepEqual(offsets([await take(fast), await take(events)]), ['end', 'end']);
});

test('a refusal is heard by all, and the channel can be asked for again at once', async () => {
  const [client, connection] = await connected();
  const [one, two] = [client.subscribe('c'), client.subscribe('c')];
  const { request } = await connection.wish();
  connection.send({ type: FAILED, request, code: 203, reason: 'no' });
  await assert.rejects(one.ready, { code: 203 });
  await assert.rejects(two.ready, { code: 203 });
  const again = client.subscribe('c', { latest: 2 });
  const next = await connection.expect(SUBSCRIBE_FROM);
  connection.send({ type: SUBSCRIBED, request: next.request, subscription: 4n, position: at(0n) });
  await again.ready;
  assert.deepEqual(offsets([await take(one[Symbol.asyncIterator]()), await take(two[Symbol.asyncIterator]())]), [
    'end',
    'end',
  ]);
  await client.close();
});
