// The library in a real browser, against a real server.

import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';
import type { Page } from 'playwright-core';
import { Chromium, connect, type Globals, heard, listen, setupFor } from './browser.ts';
import { Server } from './server.ts';

let chromium: Chromium;
let server: Server;
const pages: Page[] = [];

before(async () => {
  server = await Server.start();
  chromium = await Chromium.launch();
});
afterEach(async () => {
  for (const page of pages.splice(0)) await page.close();
});
after(async () => {
  await chromium?.close();
  await server?.stop();
});

async function open(user: string): Promise<Page> {
  const page = await connect(chromium, server, user);
  pages.push(page);
  return page;
}

const state = (page: Page) =>
  page.evaluate(() => {
    const { state } = (globalThis as unknown as Globals).client;
    return JSON.parse(
      JSON.stringify('error' in state ? { ...state, code: state.error?.code, reason: state.error?.message } : state),
    );
  });

test('two pages and the command line hear each other, and one user on two devices is notified twice', async () => {
  const [one, two] = [await open('ada'), await open('ada')];
  const connected = await state(one);
  assert.deepEqual([connected.status, connected.transport, connected.user], ['connected', 'webtransport', 'ada']);
  assert.deepEqual(connected.subscriptions.sort(), ['global', 'user-ada']);
  for (const page of [one, two]) await listen(page, 'room-1', 'user-ada', 'global');
  const native = await server.subscriber(2, 'room-1', '--only', '--user', 'bob');
  const acknowledged = await one.evaluate(async () => {
    const { client, sdk } = globalThis as unknown as Globals;
    const { position } = await client.publish('room-1', 'from a page');
    await client.publish('room-1', sdk.json({ n: 1 }), { echo: false });
    return position;
  });
  await server.cli('notify', 'ada', 'for you');
  await server.cli('announce', 'for all');
  const lines = await native.lines;
  assert.deepEqual(
    lines.map(({ text, user }) => [text, user]),
    [
      ['from a page', 'ada'],
      ['{"n":1}', 'ada'],
    ],
  );
  assert.equal(`${lines[0]!.epoch}:${lines[0]!.offset}`, acknowledged);
  await server.cli('pub', 'room-1', 'from outside', '--user', 'bob');
  // Presence is told in between, so that offsets may differ from run to run.
  const common = ['for all', 'for you', 'from a page', 'from outside'];
  for (const [page, wanted] of [
    [one, common],
    [two, [...common, '{"n":1}']],
  ] as const) {
    await page.waitForFunction(() =>
      (globalThis as unknown as Globals).heard.some(line => line.endsWith('from outside')),
    );
    await page.waitForFunction(() => (globalThis as unknown as Globals).heard.some(line => line.endsWith('for all')));
    await page.waitForFunction(() => (globalThis as unknown as Globals).heard.some(line => line.endsWith('for you')));
    const texts = (await heard(page, 1)).map(line => line.split(' ').slice(2).join(' '));
    assert.deepEqual(texts.filter(text => text !== 'presence').sort(), [...wanted].sort());
  }
  const { members, publications } = await one.evaluate(async () => {
    const { client } = globalThis as unknown as Globals;
    const { members, connections } = await client.presence('room-1');
    const { publications } = await client.history('room-1', { limit: 2, reverse: true });
    return { members: [members.length, connections], publications: publications.map(({ offset }) => Number(offset)) };
  });
  assert.equal(members[0], members[1]);
  assert.equal(publications.length, 2);
  assert.ok(await one.evaluate(async () => (await (globalThis as unknown as Globals).client.rtt()) > 0));
});

for (const count of [90, 100, 200]) {
  test(`${count} subscriptions of one page all deliver`, async () => {
    const page = await open(`many-${count}`);
    const channels = Array.from({ length: count }, (_, n) => `load-${count}.${n}`);
    await listen(page, ...channels);
    await Promise.all(channels.map(channel => server.publish(channel, 'hi')));
    const lines = await heard(page, count);
    assert.deepEqual(lines.sort(), channels.map(channel => `${channel} 1 hi`).sort());
  });
}

test('a connection that is cut is resumed with no gap and no word twice, while a publisher goes on', async () => {
  const page = await open('cut');
  await listen(page, 'room-cut');
  let offset = 0;
  const publish = async (count: number) => {
    for (let n = 0; n < count; n++) await server.publish('room-cut', String(++offset));
  };
  await publish(20);
  for (let round = 0; round < 3; round++) {
    const before = (await state(page)).session;
    const publishing = publish(60);
    await page.evaluate(() => (globalThis as unknown as Globals).sessions.at(-1)!.close());
    await page.waitForFunction(before => {
      const { state } = (globalThis as unknown as Globals).client;
      return state.status === 'connected' && state.session !== before;
    }, before);
    await publishing;
    await publish(10);
  }
  // A change of presence may come behind the last text.
  const texted = (last: number) => (globalThis as unknown as Globals).heard.some(line => line.endsWith(` ${last}`));
  await page.waitForFunction(texted, offset);
  const lines = await heard(page, offset + 3);
  // Presence is told in the channel, too: only the texts are ours.
  const texts = lines.filter(line => /^room-cut \d+ \d+$/.test(line)).map(line => Number(line.split(' ')[2]));
  assert.deepEqual(
    texts,
    Array.from({ length: offset }, (_, n) => n + 1),
  );
  const offsets = lines.filter(line => /^room-cut \d+ /.test(line)).map(line => Number(line.split(' ')[1]));
  assert.deepEqual(
    offsets,
    Array.from({ length: offsets.length }, (_, n) => offsets[0]! + n),
  );
  assert.deepEqual(
    lines.filter(line => line.includes('break')),
    Array(3).fill('room-cut break 0'),
  );
});

test('a server that is killed and started again is found again, and the break is told', async () => {
  const page = await open('killed');
  await listen(page, 'load-killed');
  await server.publish('load-killed', 'before');
  await heard(page, 1);
  await server.kill();
  await server.again();
  await page.waitForFunction(() => (globalThis as unknown as Globals).heard.some(line => line.includes('break')));
  await server.publish('load-killed', 'after');
  const lines = await heard(page, 3);
  assert.deepEqual(lines, ['load-killed 1 before', 'load-killed break undefined', 'load-killed 1 after']);
});

for (const [sign, target] of [
  ['online', 'window'],
  ['visibilitychange', 'document'],
] as const) {
  test(`who waits to come back does so at once, when the browser says ${sign}`, async () => {
    const page = await open('waits');
    // Every pause is of minutes from now on.
    await page.evaluate(() => {
      Math.random = () => 1000;
      for (const session of (globalThis as unknown as Globals).sessions) session.close();
    });
    await page.waitForFunction(() => (globalThis as unknown as Globals).client.state.status === 'connecting');
    await page.evaluate(([sign, target]) => globalThis[target].dispatchEvent(new Event(sign, { bubbles: true })), [
      sign,
      target,
    ] as const);
    await page.waitForFunction(() => (globalThis as unknown as Globals).client.state.status === 'connected');
  });
}

test('a token is replaced before it ends, without a new connection', async () => {
  const page = await chromium.page();
  pages.push(page);
  let asked = 0;
  await page.exposeFunction('fresh', async () => {
    asked++;
    return server.token('refresher', '6s');
  });
  const { url, options } = await setupFor(server, 'refresher', '5s');
  const expires = Date.now() + 5_000;
  const session = await page.evaluate(
    async ({ url, options }) => {
      const global = globalThis as unknown as Globals & { fresh: () => Promise<string> };
      global.client = new global.sdk.Client(url, { ...options, getToken: global.fresh });
      const { session } = await global.client.ready();
      return session;
    },
    { url, options },
  );
  await page.waitForFunction(expires => Date.now() > expires + 2_000, expires);
  assert.equal((await state(page)).session, session);
  assert.ok(asked >= 1 && asked <= 3, `${asked} tokens`);
});

test('a token that ends without another ends the client', async () => {
  const page = await chromium.page();
  pages.push(page);
  const setup = await setupFor(server, 'short', '4s');
  const closed = await page.evaluate(async ({ url, options }) => {
    const global = globalThis as unknown as Globals;
    const client = new global.sdk.Client(url, options);
    // Streams that are not read to their end are open when the session ends.
    await client.ready();
    return client.closed;
  }, setup);
  assert.equal(closed.code, 202);
});

test('history whose code cannot be loaded at first is read all the same', async () => {
  const page = await open('ada');
  let loads = 0;
  await page.route('**/sdk/requests.js', route => (loads++ ? route.continue() : route.abort()));
  const publications = await page.evaluate(async () => {
    const { client } = globalThis as unknown as Globals;
    await client.publish('room-late', 'one');
    return (await client.history('room-late', { limit: 1 })).publications.length;
  });
  assert.deepEqual([publications, loads], [1, 2]);
});

test('a page of another origin is refused, and told what it may be', async () => {
  const page = await chromium.page('other.localhost');
  pages.push(page);
  const setup = await setupFor(server, 'ada');
  const reason = await page.evaluate(async ({ url, options }) => {
    const global = globalThis as unknown as Globals;
    const client = new global.sdk.Client(url, options);
    return new Promise<string>(resolve => client.on('connecting', ({ error }) => error && resolve(error.message)));
  }, setup);
  assert.match(reason, /this page's origin \(http:\/\/other\.localhost:\d+\) is not on the server's list/);
});

test('a subscription that is not read holds up no other', async () => {
  const page = await open('lazy');
  await page.evaluate(async () => {
    const global = globalThis as unknown as Globals;
    global.subscriptions = [global.client.subscribe('load-unread')];
    await global.subscriptions[0]!.ready;
  });
  await listen(page, 'load-read');
  const large = 'x'.repeat(200_000);
  for (let n = 0; n < 100; n++) await server.publish('load-unread', large);
  for (let n = 1; n <= 100; n++) await server.publish('load-read', String(n));
  const lines = await heard(page, 100);
  assert.deepEqual(
    lines,
    Array.from({ length: 100 }, (_, n) => `load-read ${n + 1} ${n + 1}`),
  );
  // It is all there, or said to be missing, once somebody reads.
  const read = await page.evaluate(async () => {
    const [subscription] = (globalThis as unknown as Globals).subscriptions;
    let offset = 0n;
    for await (const event of subscription!) {
      const from = event.type === 'publication' ? event.offset : event.type === 'lagged' ? event.from : 0n;
      if (from !== offset + 1n) return `${from} after ${offset}`;
      offset = event.type === 'publication' ? event.offset : event.type === 'lagged' ? event.to : offset;
      if (offset === 100n) return 'all';
    }
    return 'over';
  });
  assert.equal(read, 'all');
});

test('of states the newest comes: by datagram, and where a reader lags', async () => {
  const page = await open('states');
  assert.ok((await state(page)).features.includes('datagram'));
  await listen(page, 'state');
  for (let n = 1; n <= 200; n++) await server.publish('state', String(n));
  await page.waitForFunction(() => (globalThis as unknown as Globals).heard.at(-1)?.endsWith(' 200'));
  const lines = (await heard(page, 1)).map(line => line.split(' '));
  let last = Number(lines[0]![1]) - 1;
  for (const [, first, second, third] of lines) {
    const from = first === 'skipped' ? Number(second) : Number(first);
    assert.equal(from, last + 1, 'a gap is told');
    last = first === 'skipped' ? Number(third) : Number(first);
  }
  await page.evaluate(async () => {
    const global = globalThis as unknown as Globals;
    global.subscriptions = [global.client.subscribe('latest')];
    await global.subscriptions[0]!.ready;
  });
  const large = 'x'.repeat(200_000);
  for (let n = 0; n < 150; n++) await server.publish('latest', large);
  await server.publish('latest', 'the last');
  const found = await page.evaluate(async () => {
    const [subscription] = (globalThis as unknown as Globals).subscriptions;
    let skipped = 0n;
    for await (const event of subscription!) {
      if (event.type === 'skipped') skipped += event.to - event.from + 1n;
      if (event.type === 'publication' && event.message.kind === 'data' && event.message.text() === 'the last') break;
    }
    return Number(skipped);
  });
  assert.ok(found > 0, 'something was skipped');
});

test('it works in a worker', async () => {
  const page = await chromium.page();
  pages.push(page);
  const setup = await setupFor(server, 'worker');
  await page.evaluate(async ({ url, options }) => {
    const global = globalThis as unknown as Globals;
    global.heard = [];
    const worker = new Worker('/worker.js', { type: 'module' });
    worker.onmessage = ({ data }) => global.heard.push(data);
    worker.postMessage({ url, options, channel: 'load-worker' });
  }, setup);
  await heard(page, 1);
  await server.publish('load-worker', 'hello worker');
  assert.deepEqual(await heard(page, 2), ['ready', 'hello worker']);
});
