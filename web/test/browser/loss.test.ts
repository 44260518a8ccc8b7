// Head-of-line blocking, in a real browser: what a lost packet holds up, and what it does not.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Chromium, type Globals, heard, listen, setupFor } from './browser.ts';
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
  const others = Array.from({ length: 5 }, (_, n) => `load-other.${n}`);
  await listen(page, 'load-lost', ...others);

  // A large message fills its packet alone, and the small ones go in packets of their own.
  let lost = 0;
  way.loses = packet => packet.length > 900 && ++lost > 0;
  await server.publish('load-lost', 'x'.repeat(1000));
  await server.publish('load-lost', 'behind it');
  await Promise.all(others.map(channel => server.publish(channel, 'passes')));
  const lines = await heard(page, others.length);
  assert.deepEqual([...lines].sort(), others.map(channel => `${channel} 1 passes`).sort());
  assert.ok(lost > 0, 'no packet was lost');

  way.loses = () => false;
  const all = await heard(page, others.length + 2);
  assert.deepEqual(all.slice(others.length), [`load-lost 1 ${'x'.repeat(1000)}`, 'load-lost 2 behind it']);
});
