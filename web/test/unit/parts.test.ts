// The small parts by themselves.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { backoff } from '../../src/backoff.ts';
import { isChannel } from '../../src/check.ts';
import { newClaim } from '../../src/claim.ts';
import { codes, type Retry, retryOf, TidingsError } from '../../src/codes.ts';
import { toHash } from '../../src/options.ts';
import { parsePosition, parts, toText } from '../../src/position.ts';
import { expiry, newTokens, wait } from '../../src/tokens.ts';
import { newWatch } from '../../src/watch.ts';
import { PING } from '../../src/wire/frames.ts';
import { connected, header } from './fake.ts';

const jwt = (claims: unknown) => `e30.${Buffer.from(JSON.stringify(claims)).toString('base64url')}.sig`;
const settled = async () => {
  for (let n = 0; n < 20; n++) await Promise.resolve();
};

test('the bound of the wait doubles up to its limit, and jitter begins at nothing', () => {
  const bounds = [1, 2, 3, 4, 5, 6, 7, 8, 5000].map(attempt => backoff(attempt, 1));
  assert.deepEqual(bounds, [400, 800, 1600, 3200, 6400, 12_800, 20_000, 20_000, 20_000]);
  assert.equal(backoff(5, 0), 0);
  assert.equal(backoff(1, 0.5), 200);
});

test('the range of a code says whether to try again', () => {
  const ranges: [number, Retry][] = [
    [codes.LOST, 'backoff'],
    [0, 'no'],
    [99, 'no'],
    [100, 'no'],
    [199, 'no'],
  ];
  ranges.push([200, 'credentials'], [299, 'credentials'], [300, 'backoff'], [999, 'backoff'], [1000, 'no']);
  ranges.push([1999, 'no'], [2000, 'backoff'], [2999, 'backoff'], [3000, 'backoff'], [4294967295, 'backoff']);
  for (const [code, retry] of ranges) assert.equal(retryOf(code), retry, String(code));
});

test('positions are text and back, beyond what a number holds', () => {
  const text = '00c0ffee00c0ffee:9007199254740993';
  assert.deepEqual(parsePosition(text), { epoch: '00c0ffee00c0ffee', offset: 9007199254740993n });
  assert.equal(toText(parts(text)), text);
  assert.equal(toText(parts({ epoch: 'ffffffffffffffff', offset: 0n })), 'ffffffffffffffff:0');
  for (const wrong of ['', 'c0ffee:1', '00C0FFEE00c0ffee:1', '00c0ffee00c0ffee:-1', '00c0ffee00c0ffee:']) {
    assert.throws(() => parsePosition(wrong), TidingsError, wrong);
  }
});

test('names of channels', () => {
  for (const name of ['a', 'user-ada', 'A0-_.:/@+=~,|%', 'x'.repeat(255)]) assert.ok(isChannel(name), name);
  for (const name of ['', ' ', 'ä', 'a\n', 'x'.repeat(256), 'a b', 'a#']) assert.ok(!isChannel(name), name);
});

test('hashes of certificates are bytes, hex with or without colons, or base64', () => {
  const bytes = Uint8Array.from({ length: 32 }, (_, n) => n * 8);
  const hex = Buffer.from(bytes).toString('hex');
  const forms = [bytes, hex, hex.toUpperCase().match(/../g)!.join(':'), Buffer.from(bytes).toString('base64')];
  for (const form of forms) assert.deepEqual(toHash(form), bytes);
});

test('the end of a token that says it', () => {
  assert.equal(expiry(jwt({ exp: 1_764_000_000 })), 1_764_000_000_000);
  assert.equal(expiry(jwt({ exp: 1.5, sub: 'Grüße?>~' })), 1500);
  for (const token of [jwt({}), jwt({ exp: 'soon' }), jwt(null), 'opaque', '', 'a.%.c'])
    assert.equal(expiry(token), undefined);
  assert.deepEqual([10_000, 3_600_000, 100, 1e12].map(wait), [8_000, 3_540_000, 1_000, 2e9]);
});

test('a token is replaced before it ends, by the clock of the server, and tried for again when that fails', async t => {
  t.mock.timers.enable({ apis: ['setTimeout', 'Date'], now: 1_000_000 });
  const given: string[] = [];
  let asked = 0;
  const next = () => {
    if (++asked === 1) throw new Error('not now');
    return jwt({ exp: 2_000 + asked });
  };
  const tokens = newTokens(
    jwt({ exp: 1_100 }),
    next,
    async token => {
      given.push(token);
      tokens.keep(token);
    },
    assert.fail,
  );
  tokens.watch(20_000);
  t.mock.timers.tick(63_999);
  await settled();
  assert.equal(asked, 0);
  t.mock.timers.tick(1);
  await settled();
  assert.deepEqual([asked, given.length], [1, 0]);
  t.mock.timers.tick(1_400);
  await settled();
  assert.deepEqual(given, [jwt({ exp: 2_002 })]);
  // The next is planned by what that one says.
  t.mock.timers.tick(2_002_000 - 60_000 - 20_000 - Date.now() - 1);
  await settled();
  assert.equal(asked, 2);
  t.mock.timers.tick(1);
  await settled();
  assert.deepEqual([asked, given.length], [3, 2]);
  tokens.stop();
  t.mock.timers.tick(1_000_000);
  await settled();
  assert.equal(asked, 3);
});

test('silence is asked after at once by who was busy, every 10 s by others, and a lack of answers is the end', () => {
  const quiet = newWatch(0);
  const looks = Array.from({ length: 16 }, (_, n) => quiet.look((n + 1) * 1000));
  assert.deepEqual(looks.map((look, n) => look && `${n + 1} ${look}`).filter(Boolean), [
    '10 ask',
    '12 ask',
    '14 ask',
    '16 lost',
  ]);
  const busy = newWatch(0);
  for (const [second, heard] of [
    [1, 1],
    [2, 1],
    [3, 7],
  ] as const) {
    for (let n = 0; n < heard; n++) busy.heard();
    assert.equal(busy.look(second * 1000), undefined);
  }
  assert.equal(busy.look(4000), 'ask');
  assert.equal(busy.look(5000), undefined);
  assert.equal(busy.look(6000), 'ask');
  // Its answer is heard too, and makes nobody busy.
  busy.heard();
  busy.answered();
  for (let second = 7; second < 16; second++) assert.equal(busy.look(second * 1000), undefined, String(second));
  assert.equal(busy.look(16_000), 'ask');
  const polite = newWatch(0);
  for (const second of [1, 2, 3]) {
    polite.asked(second * 1000);
    polite.heard();
    polite.answered();
    assert.equal(polite.look(second * 1000), undefined);
  }
  assert.equal(polite.look(4000), undefined);
});

test('a connection that does not answer is made again', async t => {
  t.mock.timers.enable({ apis: ['setInterval', 'Date'], now: 0 });
  const [client, connection, server] = await connected();
  await connection.expect(PING);
  // Its answer is heard by now.
  await client.rtt();
  await connection.expect(PING);
  connection.pongs = false;
  for (let second = 0; second < 10; second++) t.mock.timers.tick(1000);
  await connection.expect(PING);
  for (let second = 0; second < 7; second++) t.mock.timers.tick(1000);
  const [second] = await server.accept();
  assert.equal(connection.told?.reason, 'the server does not answer');
  second.welcome();
  await client.ready();
  await client.close();
});

test('a token that has ended is not shown where another can be had', async () => {
  const refresh = async () => {};
  const old = jwt({ exp: Date.now() / 1000 - 1 });
  assert.equal(await newTokens(old, () => 'new', refresh, assert.fail).next(), 'new');
  await assert.rejects(newTokens(old, () => null, refresh, assert.fail).next(), {
    code: codes.SIGNED_OUT,
    retry: 'no',
  });
  assert.equal(await newTokens(old, undefined, refresh, assert.fail).next(), old);
  const lasting = jwt({ exp: Date.now() / 1000 + 60 });
  assert.equal(await newTokens(lasting, () => 'new', refresh, assert.fail).next(), lasting);
});

test('a reader that does not look keeps the first stream and the latest ones, and stops the others', () => {
  const claim = newClaim(0, 'c', { kind: 'head' });
  const stopped: number[] = [];
  const server = { unsubscribe() {}, subscribe() {}, later() {} };
  for (let n = 1; n <= 6; n++) {
    const frames = { over: false, take: () => undefined, more: async () => {}, stop: () => stopped.push(n) };
    claim.put({ ...header(BigInt(n), 'c', 1n), frames, server });
  }
  assert.deepEqual(stopped, [2, 3]);
  const ids = claim.drain().map(({ subscription }) => subscription);
  assert.deepEqual(ids, [1n, 4n, 5n, 6n]);
});
