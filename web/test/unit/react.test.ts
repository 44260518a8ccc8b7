// The hooks, in real React: in a document, mounted twice, and rendered on a server.

import assert from 'node:assert/strict';
import { after, before, beforeEach, test } from 'node:test';
import { Window } from 'happy-dom';
import { act, createElement, type ReactElement, StrictMode, useRef } from 'react';
import { renderToString } from 'react-dom/server';
import { Client, codes } from '../../src/index.ts';
import { TidingsProvider, useChannel, useConnection, usePresence } from '../../src/react/index.ts';
import {
  FAILED,
  HISTORY_PAGE,
  PRESENCE_PAGE,
  PUBLICATION,
  READ_HISTORY,
  READ_PRESENCE,
  SUBSCRIBE_FROM,
  UNSUBSCRIBE,
} from '../../src/wire/frames.ts';
import { at, connected, EPOCH, type FakeConnection, FakeServer, place, text } from './fake.ts';

const GLOBALS = ['window', 'document', 'navigator'] as const;
let window: Window;
let container: HTMLElement;

before(() => {
  window = new Window();
  Object.assign(globalThis, { IS_REACT_ACT_ENVIRONMENT: true });
  for (const name of GLOBALS) {
    const value = name === 'window' ? window : window[name];
    Object.defineProperty(globalThis, name, { configurable: true, value });
  }
});
after(async () => {
  await window.happyDOM.close();
  for (const name of GLOBALS) Reflect.deleteProperty(globalThis, name);
});
beforeEach(() => {
  container = document.body.appendChild(document.createElement('div'));
});

/** Mounts, and returns how to render anew and how to unmount. */
async function mount(element: ReactElement) {
  const { createRoot } = await import('react-dom/client');
  const root = createRoot(container);
  await act(() => root.render(element));
  return {
    render: (element: ReactElement) => act(() => root.render(element)),
    unmount: () => act(() => root.unmount()),
  };
}

/** Waits for what the page shows. */
const shows = async (wanted: string) => {
  for (let n = 0; container.textContent !== wanted && n < 2000; n++) {
    await act(() => new Promise(resolve => setImmediate(resolve)));
  }
  assert.equal(container.textContent, wanted);
};

const Room = ({ channel, latest }: { channel: string | null; latest?: number }) => {
  const { status, publications, error } = useChannel(channel, { limit: 2, ...(latest !== undefined && { latest }) });
  return [status, ...publications.map(({ offset }) => offset), error?.code]
    .filter(part => part !== undefined)
    .join(' ');
};
const Line = () => useConnection().status;
const Here = () => {
  const { ready, members, connections, error } = usePresence('c');
  return [ready, ...members.map(({ id }) => id.slice(-1)), connections, error?.code]
    .filter(part => part !== undefined)
    .join(' ');
};
const within = (client: Client, ...children: ReactElement[]) => createElement(TidingsProvider, { client }, ...children);

test('rendering on a server connects nothing and shows what is before the first connection', () => {
  const client = new Client('https://fake', { getToken: () => assert.fail('asked') });
  const page = renderToString(
    within(
      client,
      createElement(Line, { key: 1 }),
      createElement('hr', { key: 2 }),
      createElement(Room, { key: 3, channel: 'c' }),
      createElement('hr', { key: 4 }),
      createElement(Here, { key: 5 }),
    ),
  );
  assert.equal(page, 'idle<hr/>idle<hr/>false 0');
  assert.deepEqual(client.state, { status: 'idle' });
  assert.throws(() => renderToString(createElement(Line)), /TidingsProvider/);
});

test('a channel is subscribed to while its component is mounted, twice in strict mode, and shared', async () => {
  const [client, connection] = await connected();
  const room = (channel: string | null) =>
    createElement(
      StrictMode,
      null,
      within(client, createElement(Room, { key: 1, channel }), createElement(Room, { key: 2, channel })),
    );
  const page = await mount(room('c'));
  // Strict mode mounts, unmounts and mounts: the last one counts.
  const asked = await connection.expect(SUBSCRIBE_FROM);
  connection.send({ type: 0x41, request: asked.request, subscription: 1n, position: at(0n) });
  await client.rtt();
  if (connection.count(UNSUBSCRIBE)) {
    const again = await connection.expect(SUBSCRIBE_FROM);
    connection.send({ type: 0x41, request: again.request, subscription: 2n, position: at(0n) });
    connection.begin(2n, 'c', 1n).write(text(1), text(2), text(3));
  } else {
    connection.begin(1n, 'c', 1n).write(text(1), text(2), text(3));
  }
  await shows('subscribed 2 3subscribed 2 3');
  assert.equal(connection.count(SUBSCRIBE_FROM), 0);
  await page.render(room('d'));
  await shows('subscribingsubscribing');
  await connection.expect(UNSUBSCRIBE);
  const { request } = await connection.expect(SUBSCRIBE_FROM);
  connection.send({ type: FAILED, request, code: codes.PERMISSION_DENIED, reason: 'no' });
  await shows('ended 203ended 203');
  await page.render(room('no spaces'));
  await shows(`ended ${codes.INVALID_CHANNEL}ended ${codes.INVALID_CHANNEL}`);
  await page.render(room(null));
  await shows('idleidle');
  await page.unmount();
  await client.close();
});

test('the connection is made by the component, and what it does is shown', async () => {
  const server = new FakeServer();
  const client = new Client('https://fake', { transport: 'webtransport', dial: { webtransport: server.dial } });
  const page = await mount(createElement(StrictMode, null, within(client, createElement(Line))));
  await shows('connecting');
  const [connection] = await server.accept();
  connection.welcome();
  await shows('connected');
  await act(() => client.close());
  await shows('disconnected');
  await page.unmount();
});

test('who is present is read once, kept by what changes, and read again after a break', async () => {
  const [client, connection, server] = await connected();
  const page = await mount(within(client, createElement(Here)));
  const stream = await connection.subscribed(1n, 3n);
  const answer = async (live: typeof connection, offset: bigint, ids: string[]) => {
    const { request } = await live.expect(READ_PRESENCE);
    const members = ids.map(id => ({ id: id.padStart(16, '0') }));
    const counts = { connections: ids.length, users: 0, complete: true };
    live.send({ type: PRESENCE_PAGE, request, position: at(offset), members, ...counts });
  };
  await answer(connection, 3n, ['1']);
  await shows('true 1 1');
  const change = (offset: bigint, id: string) => ({
    type: PUBLICATION,
    offset,
    time: 0,
    message: {
      kind: 'presence' as const,
      joined: [{ id: id.padStart(16, '0') }],
      left: [],
      connections: 2,
      users: 0,
      complete: true,
    },
  });
  stream.write(change(4n, '2') as never);
  await shows('true 1 2 2');
  connection.break();
  const [second] = await server.accept();
  second.welcome();
  const { request } = await second.expect(SUBSCRIBE_FROM);
  second.send({ type: 0x41, request, subscription: 1n, position: at(4n) });
  second.begin(1n, 'c', 5n);
  await answer(second, 4n, ['3']);
  await shows('true 3 1');
  await page.unmount();
  await second.expect(UNSUBSCRIBE);
  await client.close();
});

const present = (offset: bigint, id: string) =>
  ({
    type: PUBLICATION,
    offset,
    time: 0,
    message: {
      kind: 'presence',
      joined: [{ id: id.padStart(16, '0') }],
      left: [],
      connections: 2,
      users: 0,
      complete: true,
    },
  }) as never;

/** Answers the next request for who is present. */
const page = async (connection: FakeConnection, offset: bigint, ids: string[], epoch: string = EPOCH) => {
  const { request } = await connection.expect(READ_PRESENCE);
  const members = ids.map(id => ({ id: id.padStart(16, '0') }));
  const counts = { connections: ids.length, users: 0, complete: true };
  connection.send({ type: PRESENCE_PAGE, request, position: at(offset, epoch), members, ...counts });
};

/** What a channel gives, in order, before its children. */
const Events = ({ since, latest, children }: { since?: string; latest?: number; children?: ReactElement }) => {
  const heard = useRef('');
  const { publications, status, error } = useChannel('c', {
    ...(since !== undefined && { since }),
    ...(latest !== undefined && { latest }),
    onEvent: event => {
      heard.current += 'offset' in event ? `+${event.offset}` : event.type;
    },
  });
  return createElement('p', null, status, ' ', heard.current, '=', publications.length, error?.code, children);
};

test('hooks that begin a channel differently share its stream, in any order', async () => {
  // Effects of children run first.
  const [client, connection] = await connected();
  const members = createElement(Here, { key: 1 });
  const shown = await mount(within(client, createElement(Events, { latest: 2 }, members)));
  const stream = await connection.subscribed(1n, 5n);
  await page(connection, 5n, ['1']);
  const { request, query } = await connection.expect(READ_HISTORY);
  assert.deepEqual(query, { limit: 2n, reverse: true });
  // Published meanwhile: it is in the history, and comes by the stream as well.
  stream.write(text(6), text(7));
  const kept = { epoch: EPOCH, first: 1n, last: 6n };
  connection.send({ type: HISTORY_PAGE, request, kept, complete: true, count: 2 }, text(6), text(5));
  await shows('subscribed +5+6+7=3true 1 1');
  stream.write(text(8));
  await shows('subscribed +5+6+7+8=4true 1 1');
  await shown.unmount();
  await connection.expect(UNSUBSCRIBE);

  // Another beginning, in the same render and later; the same one, later.
  const two = (...more: ReactElement[]) =>
    within(
      client,
      createElement(Events, { key: 1, latest: 1 }),
      createElement(Events, { key: 2, since: place(6) }),
      ...more,
    );
  const second = await mount(two());
  const asked = await connection.expect(SUBSCRIBE_FROM);
  assert.deepEqual(asked.start, { kind: 'latest', count: 1n });
  connection.send({ type: 0x41, request: asked.request, subscription: 2n, position: at(7n) });
  const again = connection.begin(2n, 'c', 8n);
  const whole = { epoch: EPOCH, first: 1n, last: 8n };
  const since = await connection.expect(READ_HISTORY);
  assert.deepEqual(since.query, { from: at(6n), limit: 256n, reverse: false });
  connection.send({ type: HISTORY_PAGE, request: since.request, kept: whole, complete: true, count: 1 }, text(7));
  const rest = await connection.expect(READ_HISTORY);
  assert.deepEqual(rest.query, { from: at(7n), limit: 256n, reverse: false });
  connection.send({ type: HISTORY_PAGE, request: rest.request, kept: whole, complete: true, count: 1 }, text(8));
  again.write(text(8));
  await shows('subscribed +8=1subscribed +7+8=2');
  await second.render(two(createElement(Events, { key: 3, latest: 1 })));
  const late = await connection.expect(READ_HISTORY);
  connection.send({ type: HISTORY_PAGE, request: late.request, kept: whole, complete: true, count: 1 }, text(8));
  again.write(text(9));
  await shows('subscribed +8+9=2subscribed +7+8+9=3subscribed +8+9=2');
  await second.render(two(createElement(Events, { key: 4, latest: 3 })));
  const refused = await connection.expect(READ_HISTORY);
  connection.send({ type: FAILED, request: refused.request, code: codes.PERMISSION_DENIED, reason: 'no' });
  again.write(text(10));
  await shows('subscribed +8+9+10=3subscribed +7+8+9+10=4subscribed +10=1203');
  // A position that is not there any more.
  await second.render(two(createElement(Events, { key: 5, since: place(3, '00000000000000ee') })));
  const gone = await connection.expect(READ_HISTORY);
  connection.send({ type: HISTORY_PAGE, request: gone.request, kept: whole, complete: false, count: 0 });
  const oldest = await connection.expect(READ_HISTORY);
  assert.deepEqual(oldest.query, { limit: 256n, reverse: false });
  connection.send({ type: HISTORY_PAGE, request: oldest.request, kept: whole, complete: true, count: 1 }, text(8));
  await shows('subscribed +8+9+10=3subscribed +7+8+9+10=4subscribed +8=1');
  await second.unmount();
  await client.close();
});

test('hooks subscribe again when a client that ended is started again', async () => {
  const [client, connection, server] = await connected();
  const shown = await mount(
    createElement(
      StrictMode,
      null,
      within(client, createElement(Room, { key: 1, channel: 'c' }), createElement(Here, { key: 2 })),
    ),
  );
  const begin = async (live: FakeConnection, subscription: bigint) => {
    const { request } = await live.expect(SUBSCRIBE_FROM);
    live.send({ type: 0x41, request, subscription, position: at(0n) });
    return live.begin(subscription, 'c', 1n);
  };
  let stream = await begin(connection, 1n);
  await client.rtt();
  if (connection.count(UNSUBSCRIBE)) stream = await begin(connection, 2n);
  await page(connection, 0n, ['1']);
  stream.write(text(1));
  await shows('subscribed 1true 1 1');
  for (const id of ['2', '3']) {
    await act(() => client.close());
    await shows(`ended 1 0true ${Number(id) - 1} 1 0`);
    await act(() => void client.connect());
    await shows('subscribingfalse 0');
    const [next] = await server.accept();
    next.welcome();
    const fresh = await begin(next, 1n);
    await page(next, 0n, [id]);
    fresh.write(text(1));
    await shows(`subscribed 1true ${id} 1`);
  }
  await shown.unmount();
  await client.close();
});

test('changes of presence in a log that began anew are not taken for those of the log before', async () => {
  const [client, connection, server] = await connected();
  const shown = await mount(within(client, createElement(Here)));
  const stream = await connection.subscribed(1n, 3n);
  // Its page is asked for, and does not come.
  await connection.expect(READ_PRESENCE);
  stream.write(present(9n, '9'));
  await client.rtt();
  connection.break();
  const [second] = await server.accept();
  second.welcome();
  const { request } = await second.expect(SUBSCRIBE_FROM);
  const epoch = '00000000000000ee';
  second.send({ type: 0x41, request, subscription: 1n, position: at(1n, epoch) });
  const anew = second.begin(1n, 'c', 2n, { epoch });
  await page(second, 1n, ['1'], epoch);
  await shows('true 1 1');
  anew.write(present(2n, '2'));
  await shows('true 1 2 2');
  const attendance = client.presence('c');
  await page(second, 2n, ['1', '2'], epoch);
  const known = await attendance;
  const message = {
    kind: 'presence' as const,
    joined: [],
    left: known.members,
    connections: 0,
    users: 0,
    complete: true,
  };
  known.apply({ epoch: EPOCH, offset: 9n, position: place(9), time: 0, message });
  assert.equal(known.connections, 2);
  await shown.unmount();
  await client.close();
});
