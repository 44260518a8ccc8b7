// From a transport to `Welcome` (PROTOCOL §4.1, §4.2).

import { LOST, PROTOCOL_VIOLATION, TidingsError } from './codes.ts';
import { next, StreamReader } from './frames.ts';
import type { Transport } from './transport/transport.ts';
import { encode, type FrameOf, HELLO, WELCOME } from './wire/frames.ts';

/** Longest frame that is taken from the server, in bytes. */
export const MAX_FRAME = 16 << 20;
/** Time in ms that the end of a connection may come after the end of its control stream. */
const CLOSE = 5_000;

/** A connection that the server let in. */
export interface Session {
  transport: Transport;
  welcome: FrameOf<typeof WELCOME>;
  control: StreamReader;
  writer: WritableStreamDefaultWriter<Uint8Array>;
  /** Chunks that were heard. */
  heard: { count: number };
}

/** Says `Hello`. Rejects with the server's code where it refuses; the connection is then closed. */
export async function greet(
  transport: Transport,
  token: string | undefined,
  client: string,
  signal: AbortSignal,
): Promise<Session> {
  const fail = (error: TidingsError) => {
    transport.close({ closeCode: Math.max(error.code, 0), reason: error.message.slice(0, 200) });
    return error;
  };
  const abort = () => fail(new TidingsError(LOST, 'given up'));
  signal.addEventListener('abort', abort);
  if (signal.aborted) abort();
  try {
    const { readable, writable } = await transport.createBidirectionalStream();
    const heard = { count: 0 };
    const control = new StreamReader(readable, MAX_FRAME, () => heard.count++);
    const writer = writable.getWriter();
    const features = transport.datagrams ? ['lanes', 'datagram'] : ['lanes'];
    // Where it is not taken, the reason stands in the close of the connection.
    writer.write(encode({ type: HELLO, version: 1, token, client, features })).catch(() => {});
    const welcome = await next(control);
    if (welcome?.type === WELCOME) return { transport, welcome, control, writer, heard };
    if (welcome || control.fault) {
      throw new TidingsError(
        PROTOCOL_VIOLATION,
        `the server does not speak the protocol: ${control.fault?.message ?? 'no Welcome'}`,
      );
    }
    throw await ended(transport);
  } catch (error) {
    throw error instanceof TidingsError ? fail(error) : await ended(transport);
  } finally {
    signal.removeEventListener('abort', abort);
  }
}

/** Why a connection ended: with the code that the server gave, if it gave one. */
export async function closing(transport: Transport): Promise<TidingsError> {
  try {
    const { closeCode = 0, reason = '' } = await transport.closed;
    // A CONNECT stream that ends without a capsule looks like this (PROTOCOL §2.2).
    if (closeCode || reason) return new TidingsError(closeCode, reason);
  } catch (error) {
    return new TidingsError(LOST, `the connection broke: ${(error as Error).message}`);
  }
  return new TidingsError(LOST, 'the connection ended without a word');
}

/** The same, where its control stream has ended. */
export async function ended(transport: Transport): Promise<TidingsError> {
  const timer = setTimeout(() => transport.close(), CLOSE);
  const error = await closing(transport);
  clearTimeout(timer);
  return error;
}
