// Head-of-line blocking, in a real browser: what a lost packet holds up, and what it does not.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Chromium, type Globals, listen, setupFor } from './browser.ts';
import { Server } from './server.ts';
import { Way } from './way.ts';

let chromium: Chromium;
let server: Server;
let way: Way;

before(async () => {
  server = await Server.start();
  way = await Way.to(Number(new URL(server.url).port));
  chromium = await Chromium.launch();
});
after(async () => {
  await chromium?.close();
  way?.close();
  await server?.stop();
});

test('a lost packet holds up its own channel, and no other', async () => {
  const page = await chromium.page();
  const { options } = await setupFor(server, 'reader');
  await page.evaluate(
    async ({ url, options }) => {
      const global = globalThis as unknown as Globals;
      global.client = new global.sdk.Client(url, options);
      await global.client.ready();
    },
    { url: `https://127.0.0.1:${way.port}`, options },
  );
  const others = Array.from({ length: 10 }, (_, n) => `load-other.${n}`);
  await listen(page, 'load-lost', ...others);
  const lines = (channel: string) =>
    page.evaluate(
      channel => (globalThis as unknown as Globals).heard.filter(line => line.startsWith(`${channel} `)),
      channel,
    );

  // A large message fills its packet alone, and the small ones go in packets of their own.
  let lost = 0;
  way.loses = packet => packet.length > 900 && ++lost > 0;
  const large = 'x'.repeat(1000);
  await server.publish('load-lost', large);
  await server.publish('load-lost', 'behind it');
  let passed = 0;
  for (const channel of others) {
    await server.publish(channel, 'passes');
    const heard = page.waitForFunction(
      channel => (globalThis as unknown as Globals).heard.includes(`${channel} 1 passes`),
      channel,
      { timeout: 3_000 },
    );
    // Seldom it is in a packet in which the lost message is repeated, and lost with it.
    passed += await heard.then(
      () => 1,
      () => 0,
    );
    if (passed === 2) break;
  }
  assert.equal(passed, 2);
  assert.ok(lost > 0, 'no packet was lost');
  assert.deepEqual(await lines('load-lost'), []);

  way.loses = () => false;
  await page.waitForFunction(() => (globalThis as unknown as Globals).heard.includes('load-lost 2 behind it'));
  assert.deepEqual(await lines('load-lost'), [`load-lost 1 ${large}`, 'load-lost 2 behind it']);
});
