// Where UDP does not get through: WebSockets (PROTOCOL §2.4), in a real browser against a real server.

import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';
import type { Page } from 'playwright-core';
import { Chromium, type Globals, heard, listen, setupFor } from './browser.ts';
import { Server } from './server.ts';
import { Way } from './way.ts';

let chromium: Chromium;
let server: Server;
let way: Way;
const pages: Page[] = [];

before(async () => {
  server = await Server.start();
  way = await Way.to(Number(new URL(server.url).port));
  // No browser takes the hash of a certificate for a WebSocket.
  chromium = await Chromium.launch('--ignore-certificate-errors');
});
afterEach(async () => {
  way.open = true;
  for (const page of pages.splice(0)) await page.close();
});
after(async () => {
  await chromium?.close();
  way?.close();
  await server?.stop();
});

/** A page whose client goes the way, and the milliseconds that it took to be connected. */
async function open(
  user: string,
  transport: 'auto' | 'websocket',
  time?: string,
): Promise<{ page: Page; took: number }> {
  const page = await chromium.page();
  pages.push(page);
  const { options } = await setupFor(server, user, time);
  const url = `https://127.0.0.1:${way.port}`;
  const took = await page.evaluate(
    async ({ url, options, transport }) => {
      const global = globalThis as unknown as Globals;
      const begin = performance.now();
      global.client = new global.sdk.Client(url, { ...options, transport });
      await global.client.ready();
      return performance.now() - begin;
    },
    { url, options, transport },
  );
  return { page, took };
}

const transport = (page: Page) =>
  page.evaluate(() => {
    const { state } = (globalThis as unknown as Globals).client;
    return 'transport' in state ? state.transport : state.status;
  });

/** What worked is remembered for ten minutes: they pass. */
const forget = (page: Page) =>
  page.evaluate(() => {
    const now = Date.now.bind(Date);
    Date.now = () => now() + 11 * 60_000;
  });

test('where UDP is swallowed a WebSocket is there within a second, and is remembered', async () => {
  way.open = false;
  const { page, took } = await open('blocked', 'auto');
  assert.equal(await transport(page), 'websocket');
  // The best of two: the machine may be busy.
  const times = [took, (await open('blocked', 'auto')).took];
  assert.ok(Math.min(...times) < 1000, `connected after ${times} ms`);
  const setup = await setupFor(server, 'blocked');
  const again = await page.evaluate(
    async ({ url, options }) => {
      const begin = performance.now();
      const client = new (globalThis as unknown as Globals).sdk.Client(url, { ...options, transport: 'auto' });
      await client.ready();
      return performance.now() - begin;
    },
    { ...setup, url: `https://127.0.0.1:${way.port}` },
  );
  assert.ok(again < Math.min(...times), `remembered: ${again} ms, and ${times} ms before`);
});

test('where UDP passes it is WebTransport', async () => {
  const { page } = await open('free', 'auto');
  assert.equal(await transport(page), 'webtransport');
});

test('over a WebSocket 200 subscriptions deliver, and what is published is heard', async () => {
  const { page } = await open('many', 'websocket');
  const channels = Array.from({ length: 200 }, (_, n) => `load-ws.${n}`);
  await listen(page, ...channels);
  await Promise.all(channels.map(channel => server.publish(channel, 'hi')));
  const lines = await heard(page, 200);
  assert.deepEqual(lines.sort(), channels.map(channel => `${channel} 1 hi`).sort());
  await listen(page, 'user-many', 'global');
  await server.cli('notify', 'many', 'for you');
  await server.cli('announce', 'for all');
  await page.waitForFunction(() => (globalThis as unknown as Globals).heard.some(line => line.endsWith('for you')));
  await page.waitForFunction(() => (globalThis as unknown as Globals).heard.some(line => line.endsWith('for all')));
});

test('a subscription that is not read holds up no other, and a large message goes both ways', async () => {
  const { page } = await open('lazy', 'websocket');
  await page.evaluate(async () => {
    const global = globalThis as unknown as Globals;
    global.subscriptions = [global.client.subscribe('load-ws-unread')];
    await global.subscriptions[0]!.ready;
  });
  await listen(page, 'load-ws-read');
  const large = 'x'.repeat(200_000);
  for (let n = 0; n < 60; n++) await server.publish('load-ws-unread', large);
  for (let n = 1; n <= 60; n++) await server.publish('load-ws-read', String(n));
  const lines = await heard(page, 60);
  assert.equal(lines.at(-1), 'load-ws-read 60 60');
  const echo = await page.evaluate(async () => {
    const { client } = globalThis as unknown as Globals;
    const room = client.subscribe('room-large');
    await room.ready;
    await client.publish('room-large', 'y'.repeat(500_000));
    for await (const event of room) {
      if (event.type === 'publication' && event.message.kind === 'data') return event.message.text().length;
    }
    return 0;
  });
  assert.equal(echo, 500_000);
});

test('a token that ends without another ends the client, with its code', async () => {
  const { page } = await open('short', 'websocket', '4s');
  await listen(page, 'global');
  const closed = await page.evaluate(() => (globalThis as unknown as Globals).client.closed);
  assert.equal(closed.code, 202);
});

test('who changes from WebTransport to a WebSocket and back loses nothing and hears nothing twice', async () => {
  const { page } = await open('changes', 'auto');
  assert.equal(await transport(page), 'webtransport');
  await listen(page, 'load-change');
  let number = 0;
  const publish = async (count: number) => {
    for (let n = 0; n < count; n++) await server.publish('load-change', String(++number));
  };
  await publish(20);
  for (const wanted of ['websocket', 'webtransport']) {
    way.open = wanted === 'webtransport';
    await forget(page);
    const publishing = publish(60);
    await page.evaluate(() => {
      const global = globalThis as unknown as Globals;
      for (const session of global.sessions) session.close();
      for (const socket of global.sockets) socket.close();
    });
    await page.waitForFunction(wanted => {
      const { state } = (globalThis as unknown as Globals).client;
      return state.status === 'connected' && state.transport === wanted;
    }, wanted);
    await publishing;
    await publish(10);
  }
  await page.waitForFunction(last => (globalThis as unknown as Globals).heard.at(-1)?.endsWith(` ${last}`), number);
  const lines = await heard(page, number);
  assert.deepEqual(
    lines.filter(line => !line.includes('break')),
    Array.from({ length: number }, (_, n) => `load-change ${n + 1} ${n + 1}`),
  );
  assert.deepEqual(
    lines.filter(line => line.includes('break')),
    Array(2).fill('load-change break 0'),
  );
});
