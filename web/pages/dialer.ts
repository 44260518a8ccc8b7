// A way to cut the connection behind the client's back: it then does what it does on a bad network.

import type { Dial, Transport } from '/sdk/index.js';
import { dial as websocket } from '/sdk/transport/websocket.js';

/** Opens connections for a client's `dial`, and keeps the newest. */
export class Dialer {
  #connection: Transport | undefined;

  readonly webtransport: Dial = async (url, { certificateHashes, signal }) => {
    const session = new WebTransport(url.href, {
      congestionControl: 'low-latency',
      serverCertificateHashes: certificateHashes.map(value => ({ algorithm: 'sha-256', value })),
      // A browser that does not know it passes over it.
      protocols: ['tidings.v1'],
    } as WebTransportOptions);
    // Told by `ready`, or noticed by the client.
    session.closed.catch(() => {});
    const abort = () => session.close();
    signal.addEventListener('abort', abort);
    await session.ready.finally(() => signal.removeEventListener('abort', abort));
    this.#connection = session as Transport;
    return this.#connection;
  };

  /** Not where WebTransport goes, but to this address. */
  readonly websocketTo =
    (address: string): Dial =>
    async (_, options) => {
      this.#connection = await websocket(new URL(address), options);
      return this.#connection;
    };

  /** Closes the connection without a word to the client. */
  cut(): void {
    this.#connection?.close();
  }
}
