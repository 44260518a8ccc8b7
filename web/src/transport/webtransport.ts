// WebTransport (PROTOCOL §2.2).

import { LOST, TidingsError } from '../codes.ts';
import { whenAborted } from './connect.ts';
import type { DialOptions, Transport } from './transport.ts';

/** Whether this browser has WebTransport. */
export const available = (): boolean => 'WebTransport' in globalThis;

export async function dial(url: URL, { certificateHashes, signal }: DialOptions): Promise<Transport> {
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
  const listening = whenAborted(signal, () => session.close());
  try {
    await session.ready;
    return session as Transport;
  } catch (error) {
    throw new TidingsError(
      LOST,
      `no WebTransport session with ${url.host} (${(error as Error).message}): no server or no UDP there, a certificate that is not trusted, or this page's origin (${globalThis.location?.origin}) is not on the server's list`,
    );
  } finally {
    listening();
  }
}
