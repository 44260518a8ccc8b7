// How a client is set up.

import { BYTES, invalid, tag } from './check.ts';
import type { GetToken } from './tokens.ts';
import type { Dial, Kind } from './transport/transport.ts';

/** The parts of a client. All may be left out. */
export interface ClientOptions {
  /** The token to show, as long as it lasts (PROTOCOL §3.2). */
  token?: string;
  /**
   * Where to ask for a token: before a connection that has none which lasts, and before the one at hand ends, so that the session goes
   * on. `null` means signed out: the client ends with `codes.SIGNED_OUT`, and `connect` starts it again. What it throws counts as a
   * failed attempt, which is tried again; a value of another type ends the client.
   */
  getToken?: GetToken;
  /** `auto` tries WebTransport, then a WebSocket. Default `auto`. */
  transport?: Kind | 'auto';
  /** With `auto`: time in ms that WebTransport is given before a WebSocket is tried beside it. Default 500. */
  headStart?: number;
  /** SHA-256 hashes of certificates to trust in place of the browser's roots: bytes, or text in hex or base64. WebTransport only. */
  certificateHashes?: (string | Uint8Array)[];
  /** How the client calls itself in the server's logs. Default: the library's name. */
  name?: string;
  /** Total time in ms for one attempt to connect, up to the server's `Welcome`. Default 10,000. */
  deadline?: number;
  /** How to open each kind of connection, in place of this library's ways. */
  dial?: Partial<Record<Kind, Dial>>;
}

/** Where a subscription begins; by default at the head: with what is published from then on. */
export interface SubscribeOptions {
  /**
   * After this position, with everything since; if that is not there any more, with the oldest that is, after a `break`. `oldest`: with
   * everything that the server keeps.
   */
  since?: string | { epoch: string; offset: bigint };
  /** With the newest so many publications that the server keeps. */
  latest?: number;
}

/** What may be said of a publication (PROTOCOL §4.12, §4.14). */
export interface PublishOptions {
  /**
   * The publisher's own name for the message in this channel, 1 to 128 bytes: it is stored once, however often it is sent. So it is sent
   * again where the connection breaks before the answer came.
   */
  key?: string;
  /** Which of the channel's states it is, 1 to 128 bytes: of those with the same key a reader that lags is given the newest. */
  conflationKey?: string;
  /** Whether this client's own subscription gets it. Default true. */
  echo?: boolean;
}

/** Which part of a channel's log to read (PROTOCOL §4.11). */
export interface HistoryOptions {
  /** What follows this position or, in reverse, stands before it. Default: from the oldest, or the newest. */
  from?: string | { epoch: string; offset: bigint };
  /** Most publications; there are never more than 256, nor 256 KiB. Default 256. */
  limit?: number;
  /** Newest first. Default false. */
  reverse?: boolean;
}

export const toHash = (hash: string | Uint8Array): Uint8Array<ArrayBuffer> => {
  let bytes: Uint8Array<ArrayBuffer> | undefined;
  if (typeof hash === 'string') {
    const digits = hash.replace(/:/g, '');
    try {
      bytes = /^[\da-f]{64}$/i.test(digits)
        ? Uint8Array.from(digits.match(/../g)!, pair => Number(`0x${pair}`))
        : Uint8Array.from(atob(hash), character => character.charCodeAt(0));
    } catch {
      // No base64.
    }
  } else if (BYTES[0](hash as never) || tag(hash) === 'ArrayBuffer') bytes = new Uint8Array(hash);
  if (bytes?.length !== 32) throw invalid('certificateHashes', hash, '32 bytes, or their hex or base64');
  return bytes;
};
