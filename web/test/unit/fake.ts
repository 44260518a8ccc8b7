// A server of the protocol without a network: what a client sees of it, and the strings to pull.

import assert from 'node:assert/strict';
import { Client } from '../../src/client.ts';
import type { ClientOptions } from '../../src/options.ts';
import type { SubscriptionEvent } from '../../src/subscription.ts';
import type { Dial, Transport } from '../../src/transport/transport.ts';
import { newCutter } from '../../src/wire/cutter.ts';
import {
  encode,
  type Frame,
  type FrameOf,
  HEADER,
  HELLO,
  PING,
  PONG,
  PUBLICATION,
  SUBSCRIBE_FROM,
  SUBSCRIBED,
  WELCOME,
  type WirePosition,
} from '../../src/wire/frames.ts';

export const EPOCH = '0000000000c0ffee';
export const at = (offset: bigint, epoch: string = EPOCH): WirePosition => ({ epoch, offset });
/** A position as text. */
export const place = (offset: number | bigint, epoch: string = EPOCH): string => `${epoch}:${offset}`;

/** What was given, shortly: offsets, and the kinds of what is no publication. */
export const offsets = (events: SubscriptionEvent[]): (number | string)[] =>
  events.map(event => (event.type === 'publication' ? Number(event.offset) : event.type));

export const text = (offset: number | bigint, words: string = `message ${offset}`): FrameOf<typeof PUBLICATION> => ({
  type: PUBLICATION,
  offset: BigInt(offset),
  time: 1_764_000_000_000,
  publisher: 'ada',
  message: { kind: 'data', contentType: 'text/plain; charset=utf-8', bytes: new TextEncoder().encode(words) },
});

/** The end that the server writes. */
class Sink {
  /** The reader does not want more. */
  stopped = false;
  /** Chunks that the reader took. */
  taken = 0;
  readonly readable: ReadableStream<Uint8Array>;
  #waiting: Uint8Array[] = [];
  #controller!: ReadableStreamDefaultController<Uint8Array>;

  constructor() {
    this.readable = new ReadableStream<Uint8Array>(
      {
        start: controller => {
          this.#controller = controller;
        },
        pull: () => this.#pull(),
        cancel: () => {
          this.stopped = true;
        },
      },
      { highWaterMark: 0 },
    );
  }

  /** One chunk for each frame, which waits until it is asked for. */
  write(...frames: Frame[]): this {
    for (const frame of frames) this.raw(encode(frame));
    return this;
  }

  /** All in one chunk, as in one packet. */
  together(...frames: Frame[]): this {
    this.raw(new Uint8Array(frames.flatMap(frame => [...encode(frame)])));
    return this;
  }

  raw(bytes: Uint8Array): void {
    this.#waiting.push(bytes);
    if (this.#wanted) this.#pull();
  }

  end(): void {
    if (!this.stopped) this.#controller.close();
  }

  reset(): void {
    this.#controller.error(new Error('reset'));
  }

  #wanted = false;

  #pull(): void {
    const next = this.#waiting.shift();
    this.#wanted = !next;
    if (!next) return;
    this.taken++;
    this.#controller.enqueue(next);
  }
}

export class FakeConnection implements Transport {
  readonly closed: Promise<{ closeCode?: number; reason?: string }>;
  readonly incomingUnidirectionalStreams: ReadableStream<ReadableStream<Uint8Array>>;
  readonly datagrams: { readable: ReadableStream<Uint8Array> };
  readonly control: Sink = new Sink();
  /** What the client closed with. */
  told: { closeCode?: number; reason?: string } | undefined;
  /** Whether `Ping` is answered. */
  pongs = true;
  #incoming!: ReadableStreamDefaultController<ReadableStream<Uint8Array>>;
  #datagrams!: ReadableStreamDefaultController<Uint8Array>;
  #settle!: (closed: { closeCode?: number; reason?: string }) => void;
  #fail!: (error: Error) => void;
  #streams: Sink[] = [this.control];
  #frames: Frame[] = [];
  #waiting: (() => void)[] = [];
  #over = false;

  constructor() {
    this.closed = new Promise((resolve, reject) => {
      this.#settle = resolve;
      this.#fail = reject;
    });
    this.closed.catch(() => {});
    this.incomingUnidirectionalStreams = new ReadableStream({
      start: controller => {
        this.#incoming = controller;
      },
    });
    this.datagrams = {
      readable: new ReadableStream<Uint8Array>({
        start: controller => {
          this.#datagrams = controller;
        },
      }),
    };
  }

  async createBidirectionalStream() {
    const cutter = newCutter(1 << 24);
    const writable = new WritableStream<Uint8Array>({
      write: chunk => {
        cutter.push(chunk);
        for (let frame = cutter.next(); frame; frame = cutter.next()) {
          if (frame.type === PING && this.pongs) {
            this.send({ type: PONG, request: frame.request, time: Date.now() });
          }
          this.#frames.push(frame);
        }
        for (const wake of this.#waiting.splice(0)) wake();
      },
    });
    return { readable: this.control.readable, writable };
  }

  close(info: { closeCode?: number; reason?: string } = {}): void {
    this.told ??= info;
    this.#finish(() => this.#settle(info));
  }

  /** The server closes. */
  shut(closeCode: number, reason: string): void {
    this.#finish(() => this.#settle({ closeCode, reason }));
  }

  /** The network is gone. */
  break(): void {
    this.#finish(() => this.#fail(new Error('Connection lost.')));
  }

  /** The next frame of this type that the client sent; others before it stay. */
  async expect<T extends Frame['type']>(type: T): Promise<FrameOf<T>> {
    for (;;) {
      const index = this.#frames.findIndex(frame => frame.type === type);
      if (index >= 0) return this.#frames.splice(index, 1)[0] as never;
      await new Promise<void>(resolve => this.#waiting.push(resolve));
    }
  }

  /** Frames of this type that were not looked at. */
  count(type: number): number {
    return this.#frames.filter(frame => frame.type === type).length;
  }

  send(...frames: Frame[]): void {
    if (!this.#over) this.control.write(...frames);
  }

  open(...frames: Frame[]): Sink {
    const stream = new Sink().write(...frames);
    this.#streams.push(stream);
    this.#incoming.enqueue(stream.readable);
    return stream;
  }

  /** The stream of a subscription, with its header. */
  begin(id: bigint, name: string, first: bigint, more: Partial<FrameOf<typeof HEADER>> = {}): Sink {
    return this.open(header(id, name, first, more));
  }

  datagram(id: bigint, frame: Frame): void {
    this.#datagrams.enqueue(new Uint8Array([Number(id), ...encode(frame)]));
  }

  welcome(more: Partial<FrameOf<typeof WELCOME>> = {}): void {
    this.send({
      type: WELCOME,
      session: '0000000000000007',
      user: 'ada',
      server: 'fake',
      features: ['lanes', 'datagram'],
      limits: { message: 1000, frame: 2000, subscriptions: 512 },
      subscriptions: [],
      idleTimeout: 30_000,
      refused: [],
      ...more,
    });
  }

  /** Takes a wish to subscribe, which is to begin at the head. */
  async wish(): Promise<FrameOf<typeof SUBSCRIBE_FROM>> {
    const asked = await this.expect(SUBSCRIBE_FROM);
    assert.deepEqual(asked.start, { kind: 'head' });
    return asked;
  }

  /** Takes a wish to subscribe, and begins it. */
  async subscribed(id: bigint, offset: bigint): Promise<Sink> {
    const { request, channel } = await this.wish();
    this.send({ type: SUBSCRIBED, request, subscription: id, position: at(offset) });
    return this.begin(id, channel, offset + 1n);
  }

  #finish(settle: () => void): void {
    if (this.#over) return;
    this.#over = true;
    settle();
    for (const stream of this.#streams) if (!stream.stopped) stream.reset();
    this.#incoming.error(new Error('closed'));
    this.#datagrams.error(new Error('closed'));
  }
}

export const header = (
  subscription: bigint,
  name: string,
  first: bigint,
  more: Partial<FrameOf<typeof HEADER>> = {},
): FrameOf<typeof HEADER> => ({
  type: HEADER,
  subscription,
  source: 0,
  name,
  epoch: EPOCH,
  first,
  recovered: false,
  delivery: 0,
  ...more,
});

export class FakeServer {
  /** Dials that are refused before they are connections. */
  down = 0;
  #connections: FakeConnection[] = [];
  #waiting: (() => void)[] = [];

  readonly dial: Dial = async () => {
    if (this.down > 0) {
      this.down--;
      throw new Error('nobody there');
    }
    const connection = new FakeConnection();
    this.#connections.push(connection);
    for (const wake of this.#waiting.splice(0)) wake();
    return connection;
  };

  /** The next connection, and its `Hello`. */
  async accept(): Promise<[FakeConnection, FrameOf<typeof HELLO>]> {
    while (!this.#connections.length) await new Promise<void>(resolve => this.#waiting.push(resolve));
    const connection = this.#connections.shift()!;
    return [connection, await connection.expect(HELLO)];
  }

  client(options: ClientOptions = {}): Client {
    const client = new Client('https://fake', {
      transport: 'webtransport',
      dial: { webtransport: this.dial },
      ...options,
    });
    void client.connect();
    return client;
  }
}

/** A client that is connected. */
export async function connected(options: ClientOptions = {}): Promise<[Client, FakeConnection, FakeServer]> {
  const server = new FakeServer();
  const client = server.client(options);
  const [connection] = await server.accept();
  connection.welcome();
  await client.ready();
  return [client, connection, server];
}

/** Waits for a state that nobody tells. */
export async function until(state: () => unknown): Promise<void> {
  while (!state()) await new Promise(resolve => setImmediate(resolve));
}

/** The next of a loop. */
export async function take<T>(iterator: AsyncIterator<T, unknown>): Promise<T> {
  const { value, done } = await iterator.next();
  if (done) throw new Error('it is over');
  return value as T;
}
