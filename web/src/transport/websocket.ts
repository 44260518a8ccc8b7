// The fallback where WebTransport is missing or UDP does not pass (PROTOCOL §2.4). Loaded on demand.

import { LOST, TidingsError } from '../codes.ts';
import { Session } from './qmux.ts';
import type { Dial } from './transport.ts';

/** QMux in its second draft, and in it our protocol. */
const PROTOCOL = 'qmux-02.tidings.v1';

/** Hashes of certificates are not for WebSockets: the browser itself has to trust the server. */
export const dial: Dial = (url, { signal }) =>
  new Promise((resolve, reject) => {
    const address = new URL(url);
    address.protocol = url.protocol.replace('http', 'ws');
    const socket = new WebSocket(address, PROTOCOL);
    socket.binaryType = 'arraybuffer';
    const abort = () => {
      socket.close();
      reject(new TidingsError(LOST, 'given up'));
    };
    signal.addEventListener('abort', abort);
    const done = () => signal.removeEventListener('abort', abort);
    socket.addEventListener('open', () => {
      const session = new Session(socket);
      session.ready.then(() => {
        done();
        resolve(session);
      });
      session.closed.catch(reject);
    });
    socket.addEventListener('close', () => {
      done();
      reject(
        new TidingsError(
          LOST,
          `no WebSocket with ${address.host}. The browser does not say why: no server there, a certificate that it does not trust, or this page's origin is not on the server's list`,
        ),
      );
    });
    if (signal.aborted) abort();
  });
