// From a transport to `Welcome` (PROTOCOL §4.1, §4.2), and to its end.

import { LOST, PROTOCOL_VIOLATION, TidingsError, toError, unexpected } from './codes.ts';
import { next, readStream } from './frames.ts';
import { CLOSE, MAX_FRAME } from './limits.ts';
import type { Transport } from './transport/transport.ts';
import { newWatch, type Watch } from './watch.ts';
import { encode, type Frame, type FrameOf, HELLO, WELCOME } from './wire/frames.ts';

/**
 * A connection that the server let in. `receive` gives the next frame of the control stream; it rejects with why the connection ended,
 * or is to be ended.
 */
export type Session = [
  transport: Transport,
  welcome: FrameOf<typeof WELCOME>,
  receive: () => Promise<Frame>,
  writer: WritableStreamDefaultWriter<Uint8Array>,
  watch: Watch,
];

/** Says `Hello`. Rejects with the server's code where it refuses; the connection is then closed. */
export const greet = async (
  transport: Transport,
  token: string | undefined,
  client: string,
  signal: AbortSignal,
): Promise<Session> => {
  signal.addEventListener('abort', () => transport.close());
  try {
    const { readable, writable } = await transport.createBidirectionalStream();
    const watch = newWatch(Date.now());
    const control = readStream(readable, MAX_FRAME, watch.heard);
    const receive = async () => {
      const frame = await next(control);
      if (frame) return frame;
      throw control.fault ?? (await ended(transport));
    };
    const writer = writable.getWriter();
    const features = transport.datagrams ? ['lanes', 'datagram'] : ['lanes'];
    // Where it is not taken, the reason stands in the close of the connection.
    writer.write(encode({ type: HELLO, version: 1, token, client, features })).catch(() => {});
    const welcome = await receive();
    if (welcome.type !== WELCOME) throw unexpected(welcome, PROTOCOL_VIOLATION);
    return [transport, welcome, receive, writer, watch];
  } catch (error) {
    const reason = error instanceof TidingsError ? error : await ended(transport);
    close(transport, reason);
    throw reason;
  }
};

/** Closes a connection, and says why. */
export const close = (transport: Transport, { code, message }: TidingsError): void =>
  transport.close({ closeCode: Math.max(code, 0), reason: message.slice(0, 200) });

/** Why a connection ended: with the code that the server gave, if it gave one. */
export const closing = async (transport: Transport): Promise<TidingsError> => {
  try {
    const { closeCode = 0, reason = '' } = await transport.closed;
    // A CONNECT stream that ends without a capsule looks like this (PROTOCOL §2.2).
    if (closeCode || reason) return new TidingsError(closeCode, reason);
  } catch (error) {
    return toError(error);
  }
  return new TidingsError(LOST, 'the connection broke');
};

/** The same, where its control stream has ended. */
const ended = async (transport: Transport): Promise<TidingsError> => {
  const timer = setTimeout(() => transport.close(), CLOSE);
  const error = await closing(transport);
  clearTimeout(timer);
  return error;
};
