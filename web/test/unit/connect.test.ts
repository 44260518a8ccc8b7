// The race of transports.

import assert from 'node:assert/strict';
import { beforeEach, test } from 'node:test';
import { TidingsError } from '../../src/codes.ts';
import { Client } from '../../src/index.ts';
import type { ClientOptions } from '../../src/options.ts';
import { race, remember, remembered } from '../../src/transport/connect.ts';
import type { Dial } from '../../src/transport/transport.ts';
import { FakeServer, until } from './fake.ts';

beforeEach(() => remember('https://fake', undefined));

/** Never ready, but for its end. */
class Blocked {
  tried = 0;
  abandoned = 0;
  readonly dial: Dial = (_, { signal }) =>
    new Promise((_, reject) => {
      this.tried++;
      signal.addEventListener('abort', () => {
        this.abandoned++;
        reject(new Error('given up'));
      });
    });
}

const auto = (dial: NonNullable<ClientOptions['dial']>, more: ClientOptions = {}) => {
  const client = new Client('https://fake', { dial, headStart: 5, ...more });
  void client.connect();
  return client;
};

test('WebTransport that is welcomed wins alone', async () => {
  const server = new FakeServer();
  const other = new Blocked();
  const client = auto({ webtransport: server.dial, websocket: other.dial }, { headStart: 10_000 });
  const [connection] = await server.accept();
  connection.welcome();
  assert.equal((await client.ready()).transport, 'webtransport');
  assert.equal(other.tried, 0);
  await client.close();
});

const AGENTS = {
  'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/148.0.0.0 Safari/537.36': true,
  'Mozilla/5.0 (X11; Linux x86_64; rv:153.0) Gecko/20100101 Firefox/153.0': true,
  'Mozilla/5.0 (X11; Linux x86_64; rv:152.0) Gecko/20100101 Firefox/152.0': false,
  'Mozilla/5.0 (X11; Linux x86_64; rv:114.0) Gecko/20100101 Firefox/114.0': false,
  'Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/26.4 Safari/605.1.15': false,
  'Mozilla/5.0 (iPhone; CPU iPhone OS 18_7 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) CriOS/148.0.0.0 Mobile/15E148 Safari/604.1': false,
};
for (const [userAgent, wanted] of Object.entries(AGENTS)) {
  test(`WebTransport is ${wanted ? '' : 'not '}tried in ${userAgent}`, async t => {
    const server = new FakeServer();
    let tried = 0;
    class WebTransport {
      ready = Promise.reject(new Error('no'));
      closed = this.ready;
      close() {}
      constructor() {
        tried++;
      }
    }
    for (const [name, value] of Object.entries({ WebTransport, navigator: { userAgent }, location: {} })) {
      const before = Object.getOwnPropertyDescriptor(globalThis, name);
      Object.defineProperty(globalThis, name, { value, configurable: true });
      t.after(() => {
        Reflect.deleteProperty(globalThis, name);
        if (before) Object.defineProperty(globalThis, name, before);
      });
    }
    const client = auto({ websocket: server.dial });
    const [connection] = await server.accept();
    connection.welcome();
    assert.equal((await client.ready()).transport, 'websocket');
    assert.equal(tried, Number(wanted));
    await client.close();
  });
}

test('one that stays pending is overtaken after its head start, and given up', async () => {
  const [blocked, server] = [new Blocked(), new FakeServer()];
  const client = auto({ webtransport: blocked.dial, websocket: server.dial });
  const [connection] = await server.accept();
  assert.equal(blocked.abandoned, 0, 'not before the other is welcomed');
  connection.welcome();
  assert.equal((await client.ready()).transport, 'websocket');
  await until(() => blocked.abandoned === 1);
  await client.close();
});

test('one that is open but not welcomed has not won, and is closed', async () => {
  const [silent, server] = [new FakeServer(), new FakeServer()];
  const client = auto({ webtransport: silent.dial, websocket: server.dial });
  const [open] = await silent.accept();
  const [connection] = await server.accept();
  connection.welcome();
  await client.ready();
  await until(() => open.told);
  await client.close();
});

test('a failure starts the other at once, and all failures are one of the first', async () => {
  const [broken, server] = [new FakeServer(), new FakeServer()];
  broken.down = 1;
  const client = auto({ webtransport: broken.dial, websocket: server.dial }, { headStart: 1e9 });
  const [connection] = await server.accept();
  connection.welcome();
  assert.equal((await client.ready()).transport, 'websocket');
  await client.close();
  remember('https://fake', undefined);
  const fail = (words: string) => () => Promise.reject(new Error(words));
  const lost = auto({ webtransport: fail('first'), websocket: fail('second') });
  await until(() => lost.state.status === 'connecting' && lost.state.error);
  assert.equal((lost.state as { error: Error }).error.message, 'first');
  await lost.close();
});

test('what the server refuses is refused', async () => {
  const [server, other] = [new FakeServer(), new Blocked()];
  const client = auto({ webtransport: server.dial, websocket: other.dial }, { headStart: 1e9 });
  const [connection] = await server.accept();
  connection.shut(201, 'no token of ours');
  assert.deepEqual(await client.closed, { code: 201, reason: 'no token of ours' });
  assert.equal(other.tried, 0);
});

test('what worked is tried first the next time, and forgotten when it fails or after a while', async t => {
  const [blocked, server] = [new Blocked(), new FakeServer()];
  const dial = { webtransport: blocked.dial, websocket: server.dial };
  const client = auto(dial);
  (await server.accept())[0].welcome();
  await client.ready();
  await client.close();
  assert.equal(remembered('https://fake'), 'websocket');
  assert.equal(remembered('https://other'), undefined);
  const again = auto(dial, { headStart: 1e9 });
  (await server.accept())[0].welcome();
  await again.ready();
  assert.equal(blocked.tried, 1, 'only the first time');
  await again.close();
  server.down = 1;
  const failed = auto(dial, { headStart: 1e9 });
  await until(() => blocked.tried === 2);
  await failed.close();
  assert.equal(remembered('https://fake'), undefined, 'it did not work');
  remember('https://fake', 'websocket');
  t.mock.timers.enable({ apis: ['Date'], now: Date.now() + 601_000 });
  assert.equal(remembered('https://fake'), undefined);
});

test('storage of the page is used where there is one, and a forbidden one does no harm', () => {
  const stored = new Map<string, string>();
  const storage = {
    getItem: (key: string) => stored.get(key) ?? null,
    setItem: (key: string, value: string) => stored.set(key, value),
  };
  const global = globalThis as unknown as { localStorage?: unknown };
  const before = Object.getOwnPropertyDescriptor(globalThis, 'localStorage');
  try {
    Object.defineProperty(globalThis, 'localStorage', { configurable: true, value: storage });
    remember('https://stored', 'websocket');
    assert.equal(stored.size, 1);
    for (let n = 0; n < 16; n++) remember(`https://${n}`, 'webtransport');
    assert.equal(remembered('https://stored'), 'websocket', 'by the storage alone');
    remember('https://stored', undefined);
    assert.equal(remembered('https://stored'), undefined);
    Object.defineProperty(globalThis, 'localStorage', {
      configurable: true,
      get() {
        throw new Error('forbidden');
      },
    });
    remember('https://forbidden', 'websocket');
    assert.equal(remembered('https://forbidden'), 'websocket');
    for (let n = 0; n < 16; n++) remember(`https://other-${n}`, 'webtransport');
    assert.equal(remembered('https://forbidden'), undefined, 'there is not room for all');
  } finally {
    delete global.localStorage;
    if (before) Object.defineProperty(globalThis, 'localStorage', before);
  }
});

test('a winner that comes too late is discarded', async () => {
  const discarded: string[] = [];
  let finish: ((value: string) => void) | undefined;
  const slow = () => new Promise<string>(resolve => (finish = resolve));
  const controller = new AbortController();
  const lost = race(
    async () => [slow],
    0,
    1e9,
    controller.signal,
    value => discarded.push(value),
  );
  await until(() => finish);
  controller.abort(new TidingsError(-1, 'late'));
  await assert.rejects(lost, { message: 'late' });
  finish?.('a session');
  await until(() => discarded.length);
  assert.deepEqual(discarded, ['a session']);
});
