// What a connection is to the client: the part of the WebTransport API that it uses.

/** How a client is connected. */
export type Kind = 'webtransport' | 'websocket';

/**
 * A connection that is ready. A `WebTransport` is one; the fallback behaves like it: when the connection ends, all its streams fail or
 * end, and `closed` settles.
 */
export interface Transport {
  /** Resolves with the peer's code and words when it closed the connection, rejects where it broke (PROTOCOL §6). */
  readonly closed: Promise<{ closeCode?: number; reason?: string }>;
  /** Streams of the server, each with its own flow control. */
  readonly incomingUnidirectionalStreams: ReadableStream<ReadableStream<Uint8Array>>;
  /** Absent where it carries none; the server is then told so (PROTOCOL §5.6). */
  readonly datagrams?: { readonly readable: ReadableStream<Uint8Array> };
  /** Time in ms without anything from this client after which the peer ends the connection; absent or 0 for none. */
  readonly idleTimeout?: number;
  /** Opens the control stream. */
  createBidirectionalStream(): Promise<{
    readonly readable: ReadableStream<Uint8Array>;
    readonly writable: WritableStream<Uint8Array>;
  }>;
  /** Closes the connection with a code of PROTOCOL §7. May be called more than once. */
  close(info?: { closeCode?: number; reason?: string }): void;
}

export interface DialOptions {
  /** SHA-256 hashes of certificates to trust in place of the platform's roots. */
  certificateHashes: Uint8Array<ArrayBuffer>[];
  /** Gives the attempt up: what was opened is closed. */
  signal: AbortSignal;
}

/** Opens a connection to `https://HOST:PORT/PATH`. Resolves when it is ready; rejects where there is none, and when given up. */
export type Dial = (url: URL, options: DialOptions) => Promise<Transport>;
