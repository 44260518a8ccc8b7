// The console in a real browser, against a real server, by clicks and keys.

import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';
import type { Page } from 'playwright-core';
import { fits, LOOKS, type Look, line, pictures, reached, Stage, say, until, type Visit } from './visit.ts';

const stage = new Stage();
before(() => stage.begin());
afterEach(() => stage.clear());
after(() => stage.end());
const visit = (look?: Look, allowed?: RegExp[]) => stage.visit(look, allowed);

/** The console, once it has looked. */
async function consoleOf(visit: Visit): Promise<Page> {
  const page = await visit.open('/console');
  await page.locator('#status[data-state=connected]').waitFor();
  return page;
}

/** Sends by the form of the console, and waits for the answer. */
async function send(page: Page, kind: string, to: string, body: string, json = false): Promise<string> {
  await page.locator(`#send input[value=${kind}]`).click();
  if (kind !== 'announce') await page.locator('#to').fill(to);
  if (kind === 'publish') await page.locator('#format').selectOption(json ? 'json' : 'text');
  await page.locator('#body').fill(body);
  await page.locator('#send button').click();
  await page.locator('#answer').filter({ hasText: /./ }).waitFor();
  return (await page.locator('#answer').textContent())!;
}

test('the console lists channels and sessions, and what it sends is heard', async () => {
  const both = await visit();
  const [ada, bob] = [await both.enter(), await both.enter()];
  const page = await consoleOf(both);
  const lobby = page.locator('#channels tr', { hasText: 'chat-room-lobby' });
  await until(async () => Number(await lobby.locator('td').first().textContent()) >= 2);
  for (const { name } of [ada, bob]) await page.locator('#sessions summary', { hasText: name }).waitFor();
  const summary = page.locator('#sessions summary', { hasText: ada.name });
  assert.match((await summary.textContent())!, /webtransport[\d.]+ ms4 channels/);

  assert.match(
    await send(page, 'publish', 'chat-room-lobby', 'from <i>outside</i>'),
    /^chat-room-lobby has it at offset/,
  );
  assert.match(await send(page, 'publish', 'chat-room-lobby', '{"n": 12345678901234567890}', true), /^chat-room-lobby/);
  assert.match(await send(page, 'notify', ada.name, 'look here'), new RegExp(`^user-${ada.name} has it at offset 1,`));
  assert.match(await send(page, 'announce', '', 'all look here'), /^global has it/);
  for (const { page } of [ada, bob]) {
    await line(page, 'from <i>outside</i>').waitFor();
    await line(page, '{"n": 12345678901234567890}').waitFor();
    await line(page, 'all look here', '.announcement').waitFor();
  }
  await line(ada.page, 'look here', '.notification').waitFor();
  assert.equal(await line(bob.page, 'look here', '.notification').count(), 0);

  await summary.press('Enter');
  const told = page.locator('#sessions details[open] tbody tr', { hasText: `user-${ada.name}` });
  await told.locator('td').first().filter({ hasText: /^1$/ }).waitFor();
});

test('the console says why something was not sent', async () => {
  const page = await consoleOf(await visit(undefined, [/status of 422 .*\/v1\//]));
  assert.match(await send(page, 'publish', 'a b', 'text'), /^invalid_channel \(110\): /);
  assert.match(await send(page, 'publish', 'chat-room-lobby', '{"n": }', true), /^This is no JSON: /);
  assert.equal(await page.locator('#body').inputValue(), '{"n": }', 'it can be put right');
});

test('the console counts publications, and sorts and filters channels', async () => {
  const both = await visit();
  const { name } = await both.enter();
  const page = await consoleOf(both);
  const names = () => page.locator('#channels th').allTextContents();
  const own = ['chat-room-lobby', 'global', 'playground-cursors', `user-${name}`];
  // Whoever left before may be listed still.
  const mine = async () => (await names()).filter(name => own.includes(name));
  await until(async () => (await mine()).length === own.length);
  const listed = await names();
  assert.deepEqual(listed, [...listed].sort());
  await page.locator('#channels-head button', { hasText: 'Per second' }).click();
  await page.locator('#channels-head [aria-sort=descending]', { hasText: 'Per second' }).waitFor();
  let published = 0;
  const rate = page
    .locator('#channels tr', { hasText: `user-${name}` })
    .locator('td')
    .nth(2);
  await until(async () => {
    await stage.server.post('/v1/notify', { user: name, text: String(++published) });
    return (await rate.textContent()) !== '0' && (await names())[0] === `user-${name}`;
  });
  await page.locator('#publications-chart b', { hasText: /^(?!0$)/ }).waitFor();
  await page.locator('#channels-filter').fill('CHAT');
  assert.deepEqual(await names(), ['chat-room-lobby']);
  await page.locator('#channels-filter').fill('nowhere');
  await page.locator('#channels-note', { hasText: 'No channel has this in its name.' }).waitFor();
});

test('the console asks for the key outside of development, refuses a wrong one, and keeps the right one', async () => {
  const outside = await visit(undefined, [/status of 404 .*\/dev\/config$/, /status of 401 .*\/v1\//]);
  await outside.context.route('**/dev/config', route => route.fulfill({ status: 404 }));
  const page = await outside.open('/console');
  await page.locator('#key').fill('0123456789abcdef');
  await page.keyboard.press('Enter');
  await page.locator('#login-error', { hasText: /does not take this key: .*\(invalid_token\)/ }).waitFor();
  assert.equal(await page.locator('#board').isVisible(), false);
  await page.locator('#key').fill('schlüssel');
  await page.keyboard.press('Enter');
  await page.locator('#login-error', { hasText: 'This cannot be the key' }).waitFor();
  await page.locator('#key').fill(stage.server.key);
  await page.keyboard.press('Enter');
  await page.locator('#board').waitFor();
  await page.reload();
  await page.locator('#board').waitFor();
  await page.locator('#forget').click();
  await page.locator('#login').waitFor();
  assert.equal(await page.evaluate(() => sessionStorage.length + localStorage.length), 0);
});

test('the console says that the server does not answer, and goes on when it does', async () => {
  const cut = await visit(undefined, [/ERR_FAILED/]);
  const page = await consoleOf(cut);
  await cut.context.route('**/health', route => route.abort());
  await page.locator('#alert', { hasText: /no answer .* Trying again in 4 s/ }).waitFor();
  await cut.context.unroute('**/health');
  await page.locator('#status[data-state=connected]').waitFor();
  assert.equal(await page.locator('#alert').isVisible(), false);
});

test('the console does not ask while nobody looks at it', async () => {
  const both = await visit();
  const [hidden, seen] = [await consoleOf(both), await consoleOf(both)];
  const asked = { hidden: 0, seen: 0 };
  hidden.on('request', () => asked.hidden++);
  seen.on('request', () => asked.seen++);
  const hide = (hide: boolean) =>
    hidden.evaluate(hide => {
      Object.defineProperty(document, 'hidden', { value: hide, configurable: true });
      document.dispatchEvent(new Event('visibilitychange'));
    }, hide);
  await hide(true);
  // What it was about to do.
  const from = asked.seen;
  await until(async () => asked.seen >= from + 6);
  const before = asked.hidden;
  await until(async () => asked.seen >= from + 15);
  assert.equal(asked.hidden, before);
  await hide(false);
  await until(async () => asked.hidden > before);
});

for (const look of LOOKS) {
  test(`the console fits and is reached by keys: ${look.name}`, async () => {
    const both = await visit(look);
    const [ada, bob] = [await both.enter(), await both.enter()];
    await bob.page.locator('#field').press('ArrowRight');
    const page = await consoleOf(both);
    await page.locator('#sessions summary', { hasText: bob.name }).click();
    for (let n = 0; n < 5; n++) {
      const told = await send(page, 'notify', ada.name, `number ${n}`);
      await say(ada.page, 'So much is going on');
      await page
        .locator('#publications-chart b')
        .filter({ hasText: /^(?!0$)/ })
        .waitFor();
      assert.match(told, /has it/);
    }
    await page.screenshot({ path: `${pictures}/console-${look.name}.png`, fullPage: true });
    await fits(page);
    const order = await reached(await consoleOf(both), 12);
    const heads = ['Channel', 'Subscribers', 'Offset', 'Per second'];
    const kept = look.name.startsWith('desk') ? ['Kept'] : [];
    const wanted = ['Skip to the console', 'development', 'forget', 'channels-filter', 'Channels', ...heads, ...kept];
    assert.deepEqual(order.slice(0, wanted.length), wanted);
    const outside = await visit(look, [/status of 404 .*\/dev\/config$/]);
    await outside.context.route('**/dev/config', route => route.fulfill({ status: 404 }));
    const asking = await outside.open('/console');
    await asking.locator('#login').waitFor();
    await asking.screenshot({ path: `${pictures}/login-${look.name}.png` });
    await fits(asking);
  });
}
