// A way to cut the connection behind the client's back: it then does what it does on a bad network.

import type { Dial } from '/sdk/index.js';

/** Opens WebTransport sessions for a client's `dial`, and keeps the newest. */
export class Dialer {
  #session: WebTransport | undefined;

  readonly dial: Dial = async (url, { certificateHashes, signal }) => {
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
    this.#session = session;
    return session;
  };

  /** Closes the session without a word to the client. */
  cut(): void {
    this.#session?.close();
  }
}
