// The hooks, in real React: in a document, mounted twice, and rendered on a server.

import assert from 'node:assert/strict';
import { after, before, beforeEach, test } from 'node:test';
import { Window } from 'happy-dom';
import { act, createElement, type ReactElement, StrictMode } from 'react';
import { renderToString } from 'react-dom/server';
import { Client, codes } from '../../src/index.ts';
import { TidingsProvider, useChannel, useConnection, usePresence } from '../../src/react/index.ts';
import {
  FAILED,
  PRESENCE_PAGE,
  PUBLICATION,
  READ_PRESENCE,
  SUBSCRIBE_FROM,
  UNSUBSCRIBE,
} from '../../src/wire/frames.ts';
import { at, connected, FakeServer, text } from './fake.ts';

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
