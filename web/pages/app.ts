// The development page: a chat room, shared cursors, and what the connection is doing.

import { Client, type Subscription } from '/sdk/index.js';
import { chat } from './chat.ts';
import { devConfig, devToken } from './config.ts';
import { cursors } from './cursors.ts';
import { Dialer } from './dialer.ts';
import { byId } from './dom.ts';
import { alertOf, panel } from './panel.ts';
import { ownName } from './person.ts';
import { Tally } from './tally.ts';

async function start(): Promise<void> {
  const config = await devConfig();
  if (!config) throw new Error('this page is for development: start the server with `tidings serve --dev`');
  const name = ownName();
  const dialer = new Dialer();
  const client = new Client(config.url, {
    getToken: () => devToken(name),
    certificateHashes: config.certificateHashes,
    dial: {
      ...('WebTransport' in window && { webtransport: dialer.webtransport }),
      // No browser takes the hash of a certificate for a WebSocket: this one goes without TLS.
      ...(config.websocket && { websocket: dialer.websocketTo(config.websocket) }),
    },
    // The server is on this machine: WebTransport is not there late, but not at all.
    headStart: 3_000,
    name: 'tidings-page/0.1.0',
  });
  const tallies: Tally[] = [];
  const count = (subscription: Subscription) => {
    tallies.push(new Tally(subscription));
    return subscription;
  };
  panel(client, dialer, tallies);
  const notices = [client.subscribe('global'), client.subscribe(`user-${name}`)].map(count);
  count(chat(client, name, notices));
  count(await cursors(client, byId('field', HTMLElement), name));
}

start().catch((error: Error) => alertOf(`It does not work: ${error.message}`));
