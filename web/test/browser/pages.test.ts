// The development page in a real browser, against a real server, by clicks and keys.

import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';
import type { Page } from 'playwright-core';
import { fits, LOOKS, type Look, line, pictures, reached, Stage, say, until } from './visit.ts';

const stage = new Stage();
before(() => stage.begin());
afterEach(() => stage.clear());
after(() => stage.end());
const visit = (look?: Look, allowed?: RegExp[]) => stage.visit(look, allowed);

/** What the panel shows of a channel: its offset, or another column. */
async function counted(page: Page, channel: string, column = 0): Promise<number> {
  const cells = page.locator('#channels tr', { hasText: channel }).locator('td');
  return Number((await cells.nth(column).textContent())!.replace(/\D/g, ''));
}

test('two tabs are two people who chat, and who comes later sees the last lines', async () => {
  const both = await visit();
  const [ada, bob] = [await both.enter(), await both.enter()];
  assert.notEqual(ada.name, bob.name);
  await ada.page.locator('#people', { hasText: '2 people are here' }).waitFor();
  await say(ada.page, 'hello <b>you</b>');
  await line(ada.page, 'hello <b>you</b>', '.own').waitFor();
  const heard = line(bob.page, 'hello <b>you</b>', ':not(.own)');
  await heard.waitFor();
  assert.match((await heard.textContent())!, new RegExp(ada.name));
  await say(bob.page, 'and hello to you');
  await line(ada.page, 'and hello to you', ':not(.own)').waitFor();
  for (let n = 1; n <= 25; n++) await stage.server.publish('chat-room-lobby', `old ${n}.`);
  await line(ada.page, 'old 25.').waitFor();
  const late = await both.enter();
  await line(late.page, 'old 25.').waitFor();
  const texts = await late.page.locator('#lines .said').allInnerTexts();
  assert.equal(texts.at(-1), 'old 25.');
  // Who came stands in the log, too: 20 publications are up to 20 lines.
  assert.ok(texts.length >= 15 && texts.length <= 20, `${texts.length} lines`);
});

test('what is told one user, and everybody, is heard as such', async () => {
  const both = await visit();
  const [ada, bob] = [await both.enter(), await both.enter()];
  await stage.server.post('/v1/notify', { user: ada.name, text: 'only for you' });
  await stage.server.post('/v1/announce', { text: 'for everybody' });
  for (const { page } of [ada, bob]) await line(page, 'for everybody', '.announcement').waitFor();
  await line(ada.page, 'only for you', '.notification').waitFor();
  assert.equal(await line(bob.page, 'only for you').count(), 0);
});

test("two tabs see each other's pointers, moved by mouse and by keys, until they are silent", async () => {
  const both = await visit();
  const [ada, bob] = [await both.enter(), await both.enter()];
  const field = (await ada.page.locator('#field').boundingBox())!;
  const pointer = bob.page.locator(`.pointer[data-name="${ada.name}"]`);
  const at = async () => {
    const box = await pointer.boundingBox();
    return box && ([box.x - field.x, box.y - field.y] as const);
  };
  let nudge = 0;
  await until(async () => {
    nudge = 1 - nudge;
    await ada.page.mouse.move(field.x + field.width / 4 + nudge, field.y + field.height / 2);
    return near(await at(), [field.width / 4, field.height / 2]);
  });
  assert.equal(await pointer.textContent(), ada.name);
  assert.equal(await ada.page.locator('.pointer').count(), 0, 'a mouse is shown by the system alone');
  await ada.page.locator('#field').focus();
  await ada.page.keyboard.press('Shift+ArrowRight');
  await until(async () => near(await at(), [field.width * 0.35, field.height / 2]));
  await ada.page.keyboard.press('ArrowUp');
  await until(async () => near(await at(), [field.width * 0.35, field.height * 0.48]));
  await ada.page.locator(`.pointer[data-name="${ada.name}"]`).waitFor();
  await bob.page.locator('#field').press('ArrowDown');
  await ada.page.locator(`.pointer[data-name="${bob.name}"]`).waitFor();
  await pointer.waitFor({ state: 'detached' });
  const late = await both.enter();
  await until(async () => (await counted(late.page, 'playground-cursors', 1)) === 1);
  assert.equal(await late.page.locator('.pointer').count(), 0, 'nobody is where the last pointer was left');
});

test('the panel shows the transport, a round trip and growing offsets', async () => {
  const { page } = await (await visit()).enter();
  assert.equal(await page.locator('#transport').textContent(), 'webtransport');
  await page.locator('#chart b', { hasText: /^[\d.]+ ms$/ }).waitFor();
  await page.locator('#chart .trace[d*="L"]').waitFor({ state: 'attached' });
  await until(async () => (await counted(page, 'chat-room-lobby')) > 0);
  const before = await counted(page, 'chat-room-lobby');
  for (const text of ['one', 'two', 'three']) await say(page, text);
  await until(async () => (await counted(page, 'chat-room-lobby')) >= before + 3);
});

test('a connection that is cut comes back, and nothing is missing', async () => {
  const { page } = await (await visit()).enter();
  await page.locator('#cut').click();
  await page.locator('#breaks', { hasText: '1' }).waitFor();
  for (const text of ['while', 'it', 'was cut']) await stage.server.publish('chat-room-lobby', text);
  await page.locator('#status[data-state=connected]').waitFor();
  await line(page, 'was cut').waitFor();
  await page.locator('#lines .remark', { hasText: 'Connected again, nothing is missing' }).waitFor();
  await page.locator('#recovered', { hasText: /^\d of \d channels$/ }).waitFor();
  await say(page, 'still here');
  await line(page, 'still here', '.own').waitFor();
});

test('a browser without WebTransport has the same page over a WebSocket', async () => {
  const both = await visit();
  await both.context.addInitScript(() => Reflect.deleteProperty(globalThis, 'WebTransport'));
  const [ada, bob] = [await both.enter(), await both.enter()];
  assert.equal(await ada.page.locator('#transport').textContent(), 'websocket');
  await say(ada.page, 'over TCP');
  await line(bob.page, 'over TCP', ':not(.own)').waitFor();
  const field = (await ada.page.locator('#field').boundingBox())!;
  await ada.page.mouse.move(field.x + 20, field.y + 20);
  await bob.page.locator(`.pointer[data-name="${ada.name}"]`).waitFor();
  await ada.page.locator('#cut').click();
  await ada.page.locator('#breaks', { hasText: '1' }).waitFor();
  await ada.page.locator('#status[data-state=connected]').waitFor();
  await ada.page.locator('#lines .remark', { hasText: 'Connected again, nothing is missing' }).waitFor();
});

for (const look of LOOKS) {
  test(`the development page fits and is reached by keys: ${look.name}`, async () => {
    const both = await visit(look);
    const [ada, bob] = [await both.enter(), await both.enter()];
    await say(ada.page, 'Is the order for Friday out yet?');
    await say(
      bob.page,
      'It left an hour ago: https://example.org/orders/a-rather-long-path-that-has-to-break-somewhere/17',
    );
    await stage.server.post('/v1/notify', { user: ada.name, text: 'Your order is on its way' });
    await stage.server.post('/v1/announce', { text: 'Maintenance tonight at 22:00' });
    await stage.server.post('/v1/publish', { channel: 'chat-room-lobby', json: { stock: 12 } });
    await line(ada.page, 'stock').waitFor();
    await line(ada.page, 'Maintenance').waitFor();
    if ('hasTouch' in look) {
      await ada.page.locator('#field').scrollIntoViewIfNeeded();
      await bob.page.locator('#field').tap({ position: { x: 90, y: 60 } });
    } else {
      await bob.page.locator('#field').hover({ position: { x: 300, y: 100 } });
    }
    await ada.page.locator(`.pointer[data-name="${bob.name}"]`).waitFor();
    await ada.page.locator('#field').press('ArrowRight');
    await ada.page.locator('#chart .trace[d*="L"]').waitFor({ state: 'attached' });
    await ada.page.screenshot({ path: `${pictures}/app-${look.name}.png`, fullPage: true });
    await fits(ada.page);
    const order = await reached((await both.enter()).page, 8);
    assert.deepEqual(order, [
      'Skip to the chat',
      'Console',
      'lines',
      'text',
      'Send',
      'Open a second tab',
      'field',
      'cut',
    ]);
  });
}

const near = (at: readonly [number, number] | null, [x, y]: [number, number]): boolean =>
  at !== null && Math.abs(at[0] - x) < 3 && Math.abs(at[1] - y) < 3;
