// Somebody who looks at the pages: a window in which nothing may go wrong unseen.

import assert from 'node:assert/strict';
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { BrowserContext, Page } from 'playwright-core';
import { Chromium } from './browser.ts';
import { Server } from './server.ts';

const CONFIG = `
[[rules]]
pattern = "user-{user}"
subscribe = "owner"
publish = "nobody"
auto_subscribe = true
[[rules]]
pattern = "global"
subscribe = "everyone"
publish = "nobody"
auto_subscribe = true
[[rules]]
pattern = "chat-room-{room}"
subscribe = "authenticated"
publish = "authenticated"
presence = true
[[rules]]
pattern = "playground-{name}"
subscribe = "authenticated"
publish = "authenticated"
delivery = "datagram"
`;

const PHONE = { width: 360, height: 740 };
const DESK = { width: 1280, height: 800 };

/** Every way in which the pages are looked at. */
export const LOOKS = [
  { name: 'desk-light', viewport: DESK, colorScheme: 'light' },
  { name: 'desk-dark', viewport: DESK, colorScheme: 'dark' },
  { name: 'phone-light', viewport: PHONE, colorScheme: 'light', hasTouch: true },
  { name: 'phone-dark', viewport: PHONE, colorScheme: 'dark', hasTouch: true },
] as const;
export type Look = (typeof LOOKS)[number];

/** Where pictures go. */
export const pictures = mkdtempSync(join(tmpdir(), 'tidings-pictures-'));

/** The server, its pages and the browser of a test file, and who looks at the pages in a test. */
export class Stage {
  server!: Server;
  #chromium!: Chromium;
  #visits: Visit[] = [];

  async begin(): Promise<void> {
    this.server = await Server.start(CONFIG);
    this.#chromium = await Chromium.launch();
    console.log(`pictures in ${pictures}`);
  }

  async visit(look?: Look, allowed?: RegExp[]): Promise<Visit> {
    const begun = await Visit.begin(this.#chromium, this.server.http, look, allowed);
    this.#visits.push(begun);
    return begun;
  }

  /** Ends all visits. Fails where something went wrong in one. */
  async clear(): Promise<void> {
    for (const visit of this.#visits.splice(0)) await visit.end();
  }

  async end(): Promise<void> {
    await this.#chromium?.close();
    await this.server?.stop();
  }
}

export class Visit {
  readonly context: BrowserContext;
  readonly #site: string;
  readonly #allowed: RegExp[];
  readonly #wrong: string[] = [];

  private constructor(context: BrowserContext, site: string, allowed: RegExp[]) {
    this.context = context;
    this.#site = site;
    this.#allowed = allowed;
  }

  /** `allowed`: errors that the browser's console is to say, as it does for every status that is none of success. */
  static async begin(chromium: Chromium, site: string, look: Look = LOOKS[0], allowed: RegExp[] = []): Promise<Visit> {
    const { name: _, ...options } = look;
    const visit = new Visit(await chromium.context(options), site, allowed);
    visit.context.setDefaultTimeout(30_000);
    visit.context.on('request', request => {
      if (new URL(request.url()).origin !== site) visit.#wrong.push(`a request to ${request.url()}`);
    });
    return visit;
  }

  async open(path: string): Promise<Page> {
    const page = await this.context.newPage();
    page.on('pageerror', error => this.#wrong.push(`an error: ${error.stack}`));
    page.on('console', message => {
      const said = `${message.text()} ${message.location().url}`;
      const bad = message.type() === 'error' || message.type() === 'warning';
      if (bad && !this.#allowed.some(pattern => pattern.test(said))) this.#wrong.push(`in the console: ${said}`);
    });
    await page.goto(this.#site + path);
    return page;
  }

  /** The development page, once it is connected; who it is. */
  async enter(): Promise<{ page: Page; name: string }> {
    const page = await this.open('/');
    await page.locator('#status[data-state=connected]').waitFor();
    await page.locator('#channels tr', { hasText: 'playground-cursors' }).waitFor();
    const name = (await page.locator('#user').textContent())!;
    return { page, name };
  }

  /** Ends it. Fails where something went wrong in any of its pages. */
  async end(): Promise<void> {
    await this.context.close();
    assert.deepEqual(this.#wrong, []);
  }
}

/** Nothing sticks out on the right. */
export async function fits(page: Page): Promise<void> {
  const [content, view] = await page.evaluate(() => {
    const { scrollWidth, clientWidth } = document.documentElement;
    return [scrollWidth, clientWidth] as const;
  });
  assert.equal(content, view, 'the page is as wide as its window');
}

/** The ids, or the texts, of what the tab key reaches, in its order, up to `count`. */
export async function reached(page: Page, count: number): Promise<string[]> {
  const all: string[] = [];
  for (let n = 0; n < count; n++) {
    await page.keyboard.press('Tab');
    const [at, ring] = await page.evaluate(() => {
      const active = document.activeElement!;
      return [
        active.id || active.ariaLabel || active.textContent!.trim(),
        getComputedStyle(active).outlineStyle,
      ] as const;
    });
    assert.notEqual(ring, 'none', `${at} shows that it has the focus`);
    all.push(at);
  }
  return all;
}

/** Waits until it is so; fails after 20 s. */
export async function until(so: () => Promise<boolean>): Promise<void> {
  const end = Date.now() + 20_000;
  while (!(await so())) {
    assert.ok(Date.now() < end, `not so after 20 s: ${so}`);
    await new Promise(resolve => setTimeout(resolve, 50));
  }
}

/** The newest line of the chat with this text. */
export const line = (page: Page, text: string, kind = '') =>
  page.locator(`#lines .line${kind}`, { has: page.locator('.said', { hasText: text }) }).last();

export async function say(page: Page, text: string): Promise<void> {
  await page.locator('#text').click();
  await page.keyboard.type(text);
  await page.keyboard.press('Enter');
}
