// WebTransport (PROTOCOL §2.2).

import { LOST, TidingsError } from '../codes.ts';
import type { DialOptions, Transport } from './transport.ts';

/**
 * Whether this browser has WebTransport, and where `reliable` is asked for, one that can be relied upon: WebKit's stalls after some thousand
 * streams, Firefox before 153 shows two streams of a server at a time.
 */
export const available = (reliable: boolean): boolean =>
  'WebTransport' in globalThis && !(reliable && /AppleWebKit\/6|Firefox\/1([1-4]|5[0-2])/.test(navigator.userAgent));

export const dial = async (url: URL, { certificateHashes, signal }: DialOptions): Promise<Transport> => {
  const session = new WebTransport(url.href, {
    congestionControl: 'low-latency',
    ...(certificateHashes.length && {
      serverCertificateHashes: certificateHashes.map(value => ({ algorithm: 'sha-256', value })),
    }),
    // A browser that does not know it passes over it.
    protocols: ['tidings.v1'],
  } as WebTransportOptions);
  // Told by `ready`.
  session.closed.catch(() => {});
  signal.addEventListener('abort', () => session.close());
  try {
    await session.ready;
    return session as Transport;
  } catch (error) {
    throw new TidingsError(
      LOST,
      `no WebTransport with ${url.host} (${(error as Error).message}): no server, UDP or trust, or this page's origin (${globalThis.location?.origin}) is not on the server's list`,
    );
  }
};
