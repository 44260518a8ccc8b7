// The subscriber of `benches/loss/run` that is a page in a real browser: subscribes to every flow, and has what arrived judged as that of
// the other subscribers is. Prints "ready", and the line of the judge when everything has come.
//
//   node observer.js URL CERTIFICATE-HASH TRANSPORT CHANNELS MESSAGES JUDGE [ARGUMENT …]

import { spawn } from 'node:child_process';
import type { Kind } from '../../src/index.ts';
import { Chromium, type Globals } from './browser.ts';

const [, , url = '', hash = '', kind = '', channels, messages, judge = '', ...flags] = process.argv;
if (kind !== 'webtransport' && kind !== 'websocket') throw new Error(`no transport ${kind}`);
const transport: Kind = kind;

/** An arrival: the page's time in ms, and the beginning of the message in hexadecimal. */
type Arrival = [number, string];
type Page = Globals & { arrivals: Arrival[]; wrong: string | undefined };

// No browser takes the hash of a certificate for a WebSocket.
const chromium = await Chromium.launch('--ignore-certificate-errors');
try {
  const page = await chromium.page();
  await page.evaluate(
    async ({ url, hash, transport, channels }) => {
      const global = globalThis as unknown as Page;
      global.arrivals = [];
      global.client = new global.sdk.Client(url, { transport, certificateHashes: [hash] });
      const subscriptions = Array.from({ length: channels }, (_, flow) => global.client.subscribe(`flow-${flow}`));
      for (const subscription of subscriptions) {
        subscription.on('publication', ({ message }) => {
          const time = performance.now();
          const bytes = message.kind === 'data' ? message.bytes.subarray(0, 14) : [];
          global.arrivals.push([time, Array.from(bytes, byte => byte.toString(16).padStart(2, '0')).join('')]);
        });
        for (const event of ['lagged', 'skipped', 'break', 'end'] as const) {
          subscription.on(event, ({ type }) => {
            global.wrong ??= `${subscription.channel}: ${type}`;
          });
        }
      }
      await Promise.all(subscriptions.map(({ ready }) => ready));
    },
    { url, hash, transport, channels: Number(channels) },
  );

  // Both are the machine's monotonic clock, from different beginnings. Of many looks the quickest is the best.
  let begin = 0;
  let quickest = Number.POSITIVE_INFINITY;
  for (let look = 0; look < 100; look++) {
    const before = Number(process.hrtime.bigint());
    const there = await page.evaluate(() => performance.now());
    const took = Number(process.hrtime.bigint()) - before;
    if (took < quickest) [quickest, begin] = [took, before + took / 2 - there * 1e6];
  }
  console.log('ready');

  await page.waitForFunction(
    wanted => {
      const { arrivals, wrong } = globalThis as unknown as Page;
      return wrong || arrivals.length >= wanted;
    },
    Number(messages),
    { timeout: 0, polling: 100 },
  );
  const { arrivals, wrong } = await page.evaluate(() => {
    const { arrivals, wrong } = globalThis as unknown as Page;
    return { arrivals, wrong };
  });
  if (wrong) throw new Error(`the delivery is not whole: ${wrong}`);
  const judging = spawn(judge, flags, { stdio: ['pipe', 'inherit', 'inherit'] });
  judging.stdin.end(arrivals.map(([time, digits]) => `${Math.round(begin + time * 1e6)} ${digits}\n`).join(''));
  process.exitCode = await new Promise<number>(resolve => judging.once('exit', code => resolve(code ?? 1)));
} finally {
  await chromium.close();
}
