// A real browser, and the pages that it loads.

import { accessSync, readFileSync } from 'node:fs';
import { createServer, type Server as HttpServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { fileURLToPath } from 'node:url';
import { type Browser, type BrowserContext, type BrowserContextOptions, chromium, type Page } from 'playwright-core';
import type { Server } from './server.ts';

const CHROMIUM = process.env.CHROMIUM ?? '/usr/bin/chromium';
const FLAGS = [
  '--no-sandbox',
  '--disable-gpu',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];
const DIST = new URL('../../../dist/', import.meta.url);

const WORKER = `
import { Client } from '/sdk/index.js';
onmessage = async ({ data: { url, options, channel } }) => {
  const client = new Client(url, options);
  const subscription = client.subscribe(channel);
  await subscription.ready;
  postMessage('ready');
  for await (const event of subscription) postMessage(event.message.text());
};
`;

/** Pages of a secure context (loopback is one) that may import the library. */
class Pages {
  readonly #server: HttpServer;

  constructor() {
    this.#server = createServer((request, response) => {
      const path = request.url ?? '/';
      const script = path.startsWith('/sdk/') && /^[\w/-]+\.js$/.test(path.slice(5)) && path.slice(5);
      try {
        const [type, body] = script
          ? ['text/javascript', readFileSync(fileURLToPath(new URL(script, DIST)))]
          : path === '/worker.js'
            ? ['text/javascript', WORKER]
            : ['text/html', '<!doctype html><title>test</title>'];
        response.setHeader('content-type', type).end(body);
      } catch {
        response.writeHead(404).end();
      }
    });
  }

  listen(): Promise<void> {
    return new Promise(resolve => this.#server.listen(0, '127.0.0.1', resolve));
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  close(): void {
    this.#server.closeAllConnections();
    this.#server.close();
  }
}

/** What a page gets to connect with. */
export interface Setup {
  url: string;
  options: { token?: string; certificateHashes: string[]; transport: 'webtransport' };
}

export class Chromium {
  readonly #browser: Browser;
  readonly #pages: Pages;

  private constructor(browser: Browser, pages: Pages) {
    this.#browser = browser;
    this.#pages = pages;
  }

  static async launch(...flags: string[]): Promise<Chromium> {
    try {
      accessSync(CHROMIUM);
    } catch {
      throw new Error(`${CHROMIUM} is missing: apt-get install -y chromium, or set CHROMIUM`);
    }
    const pages = new Pages();
    await pages.listen();
    return new Chromium(await chromium.launch({ executablePath: CHROMIUM, args: [...FLAGS, ...flags] }), pages);
  }

  /** An empty page of this host, with the library as `sdk`. */
  async page(host = '127.0.0.1'): Promise<Page> {
    const page = await this.#browser.newPage();
    page.setDefaultTimeout(60_000);
    await page.goto(`http://${host}:${this.#pages.port}/`);
    // The sessions that the library opens, so that they can be cut behind its back.
    await page.evaluate(() => {
      const global = globalThis as unknown as Globals;
      global.sessions = [];
      global.WebTransport = class extends WebTransport {
        constructor(url: string | URL, options?: WebTransportOptions) {
          super(String(url), options);
          global.sessions.push(this);
        }
      };
      global.sockets = [];
      global.WebSocket = class extends WebSocket {
        constructor(url: string | URL, protocols?: string | string[]) {
          super(url, protocols);
          global.sockets.push(this);
        }
      };
    });
    await page.evaluate("import('/sdk/index.js').then(sdk => { globalThis.sdk = sdk; })");
    return page;
  }

  /** A browser window of its own, with nothing kept from before. */
  context(options: BrowserContextOptions): Promise<BrowserContext> {
    return this.#browser.newContext(options);
  }

  async close(): Promise<void> {
    await this.#browser.close();
    this.#pages.close();
  }
}

/** A page with a client as `client`, connected as this user. */
export async function connect(chromium: Chromium, server: Server, user: string): Promise<Page> {
  const page = await chromium.page();
  const setup = await setupFor(server, user);
  await page.evaluate(async ({ url, options }) => {
    const global = globalThis as unknown as Globals;
    global.client = new global.sdk.Client(url, options);
    await global.client.ready();
  }, setup);
  return page;
}

export async function setupFor(server: Server, user: string, time?: string): Promise<Setup> {
  const token = await server.token(user, time);
  return { url: server.url, options: { token, certificateHashes: [server.hash], transport: 'webtransport' } };
}

/** What pages have. */
export interface Globals {
  sdk: typeof import('../../src/index.ts');
  client: import('../../src/index.ts').Client;
  /** What was heard, as text. */
  heard: string[];
  sessions: WebTransport[];
  WebTransport: unknown;
  sockets: WebSocket[];
  WebSocket: unknown;
  subscriptions: import('../../src/index.ts').Subscription[];
}

/** Subscribes to these; `heard` gets every event as a line. */
export const listen = (page: Page, ...channels: string[]): Promise<void> =>
  page.evaluate(async channels => {
    const global = globalThis as unknown as Globals;
    global.heard ??= [];
    global.subscriptions ??= [];
    const added = channels.map(channel => {
      const subscription = global.client.subscribe(channel);
      subscription.on('publication', ({ offset, message }) => {
        const text = message.kind === 'data' ? message.text() : 'text' in message ? message.text : message.kind;
        global.heard.push(`${channel} ${offset} ${text}`);
      });
      for (const gap of ['lagged', 'skipped'] as const) {
        subscription.on(gap, ({ from, to }) => global.heard.push(`${channel} ${gap} ${from} ${to}`));
      }
      subscription.on('break', ({ missed }) => global.heard.push(`${channel} break ${missed}`));
      subscription.on('end', ({ code }) => global.heard.push(`${channel} end ${code}`));
      return subscription;
    });
    global.subscriptions.push(...added);
    await Promise.all(added.map(({ ready }) => ready));
  }, channels);

/** Waits until so many lines were heard; all that were. */
export async function heard(page: Page, count: number): Promise<string[]> {
  await page.waitForFunction(count => (globalThis as unknown as Globals).heard.length >= count, count);
  return page.evaluate(() => (globalThis as unknown as Globals).heard);
}
