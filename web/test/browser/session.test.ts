// How long sessions last in a real browser: short idle timeouts, and pages that are left.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Chromium, type Globals, setupFor } from './browser.ts';
import { CONFIG, Server } from './server.ts';

let chromium: Chromium;

before(async () => {
  // No browser takes the hash of a certificate for a WebSocket.
  chromium = await Chromium.launch('--ignore-certificate-errors');
});
after(async () => {
  await chromium?.close();
});

for (const idle of [3, 10]) {
  for (const transport of ['webtransport', 'websocket'] as const) {
    test(`an idle timeout of ${idle} s keeps a silent ${transport} session`, async t => {
      const server = await Server.start(`[timeouts]\nidle = ${idle}\n${CONFIG}`);
      t.after(() => server.stop());
      const page = await chromium.page();
      t.after(() => page.close());
      const { options } = await setupFor(server, 'ada');
      const seen = await page.evaluate(
        async ({ url, options, transport, idle }) => {
          const { sdk } = globalThis as unknown as Globals;
          const client = new sdk.Client(url, { ...options, transport });
          const states: string[] = [];
          client.on('connecting', ({ error }) => states.push(`connecting ${error?.message}`));
          const { idleTimeout } = await client.ready();
          states.length = 0;
          await new Promise(resolve => setTimeout(resolve, 2.5 * idle * 1000));
          await client.rtt();
          return [idleTimeout, ...states];
        },
        { url: server.url, options, transport, idle },
      );
      assert.deepEqual(seen, [idle * 1000]);
    });
  }
}

test('a page that is left closes its session, with the code of an orderly end', async t => {
  const server = await Server.start(CONFIG);
  t.after(() => server.stop());
  const page = await chromium.page();
  t.after(() => page.close());
  const { url, options } = await setupFor(server, 'ada');
  await page.evaluate(
    async ({ url, options }) => {
      const global = globalThis as unknown as Globals;
      global.client = new global.sdk.Client(url, options);
      await global.client.ready();
      // Told to the page that follows by its storage: an event of the session may come too late to be heard.
      const session = global.sessions.at(-1)!;
      const close = session.close.bind(session);
      session.close = info => {
        sessionStorage.closed = JSON.stringify(info);
        close(info);
      };
    },
    { url, options },
  );
  await page.reload();
  const closed = await page.evaluate(() => sessionStorage.closed as string | undefined);
  assert.deepEqual(JSON.parse(closed ?? 'null'), { closeCode: 0, reason: 'the page was left' });
});
