// QMux (draft-ietf-quic-qmux-02) over a WebSocket: QUIC's streams and flow control, without its packets (PROTOCOL §2.4). As much of it
// as a client needs, which opens one stream and is sent many.

import { LOST, TidingsError } from '../codes.ts';
import { concat } from '../wire/codec.ts';
import { Integers, integers } from './integers.ts';
import type { Transport } from './transport.ts';

/** Streams that the server may have open at a time. */
const STREAMS = 100;
/** Bytes that came and were not read: of one stream, and of all together. Streams that nobody reads hold up no other. */
const STREAM_WINDOW = 256 * 1024;
const WINDOW = (STREAMS + 1) * STREAM_WINDOW;
/** Largest record, less what stands before the bytes of a stream. */
const RECORD = 16_382 - 24;

/** Types of frames (RFC 9000 §19; QMux §5). */
const RESET = 0x04;
const STOP = 0x05;
const STREAM = 0x08;
const MAX_DATA = 0x10;
const MAX_STREAM_DATA = 0x11;
const MAX_STREAMS_BIDI = 0x12;
const MAX_STREAMS_UNI = 0x13;
const VIOLATION = 0x1c;
const CLOSE = 0x1d;
const PARAMETERS = 0x3f5153300d0a0d0an;
const PING = 0x348c67529ef8c7bdn;
const PONG = 0x348c67529ef8c7ben;

/** The control stream: the first that a client opens. */
const CONTROL = 0;

/** What the code of a reset is told as: the part of a `WebTransportError` that is read. */
const streamError = (code: number) => Object.assign(new Error(`reset with code ${code}`), { streamErrorCode: code });

const codeOf = (reason: unknown): number =>
  Number((reason as { streamErrorCode?: number } | undefined)?.streamErrorCode ?? 0);

/** Bytes of one stream that came and were not read. */
class Incoming {
  readonly readable: ReadableStream<Uint8Array>;
  readonly #session: Session;
  readonly #id: number;
  #chunks: Uint8Array[] = [];
  #received = 0;
  #read = 0;
  #limit = STREAM_WINDOW;
  #ended = false;
  #stopped = false;
  #controller!: ReadableStreamDefaultController<Uint8Array>;
  #wanted: (() => void) | undefined;

  constructor(session: Session, id: number) {
    this.#session = session;
    this.#id = id;
    this.readable = new ReadableStream<Uint8Array>(
      {
        start: controller => {
          this.#controller = controller;
        },
        pull: () => this.#pull(),
        cancel: reason => this.#stop(codeOf(reason)),
      },
      // Whoever reads decides what is held: windows are opened for what was read.
      { highWaterMark: 0 },
    );
  }

  receive(offset: number, data: Uint8Array, fin: boolean): void {
    this.#received += data.length;
    if (this.#ended || offset + data.length !== this.#received || this.#received > this.#limit) {
      throw new TidingsError(LOST, 'the server breaks the rules of a stream');
    }
    this.#ended = fin;
    if (this.#stopped) this.#consume(data.length);
    else if (data.length) this.#chunks.push(data);
    this.#wanted?.();
    if (fin) this.#settle();
  }

  reset(code: number): void {
    this.#session.consumed(this.#chunks.reduce((sum, chunk) => sum + chunk.length, 0));
    this.fail(streamError(code));
    this.#session.over(this.#id);
  }

  /** The connection is over, or the stream. */
  fail(error: unknown): void {
    this.#chunks = [];
    this.#ended = true;
    if (!this.#stopped) this.#controller.error(error);
    this.#stopped = true;
    this.#wanted?.();
  }

  async #pull(): Promise<void> {
    while (!this.#chunks.length && !this.#ended) {
      await new Promise<void>(resolve => {
        this.#wanted = resolve;
      });
      this.#wanted = undefined;
    }
    const chunk = this.#chunks.shift();
    if (chunk) {
      this.#controller.enqueue(chunk);
      this.#consume(chunk.length);
    }
    this.#settle();
  }

  /** Ends the stream for its reader, where all was read. */
  #settle(): void {
    if (!this.#ended || this.#chunks.length || this.#stopped) {
      if (this.#ended && this.#stopped) this.#session.over(this.#id);
      return;
    }
    this.#stopped = true;
    this.#controller.close();
    this.#session.over(this.#id);
  }

  #consume(bytes: number): void {
    this.#read += bytes;
    if (!this.#ended && !this.#stopped && this.#read + STREAM_WINDOW >= this.#limit + STREAM_WINDOW / 2) {
      this.#limit = this.#read + STREAM_WINDOW;
      this.#session.send(MAX_STREAM_DATA, this.#id, this.#limit);
    }
    this.#session.consumed(bytes);
  }

  #stop(code: number): void {
    const unread = this.#chunks.reduce((sum, chunk) => sum + chunk.length, 0);
    this.#chunks = [];
    if (!this.#ended) this.#session.send(STOP, this.#id, code);
    this.#stopped = true;
    this.#session.consumed(unread);
    if (this.#ended) this.#session.over(this.#id);
  }
}

/** A connection over an open WebSocket. It is {@link ready} when the server has said what it permits. */
export class Session implements Transport {
  readonly ready: Promise<void>;
  readonly closed: Promise<{ closeCode?: number; reason?: string }>;
  readonly incomingUnidirectionalStreams: ReadableStream<ReadableStream<Uint8Array>>;
  /** Parameter `max_idle_timeout` of the server, in ms; 0 for none. */
  idleTimeout = 0;
  readonly #socket: WebSocket;
  readonly #streams = new Map<number, Incoming>();
  #incoming!: ReadableStreamDefaultController<ReadableStream<Uint8Array>>;
  #begin!: () => void;
  #end!: (end: { closeCode?: number; reason?: string }) => void;
  #break!: (error: TidingsError) => void;
  #over = false;
  /** Streams of the server that were opened, and that are over. */
  #opened = 0;
  #done = 0;
  #received = 0;
  #read = 0;
  #limit = WINDOW;
  /** Bytes that the server takes: of the control stream, and of all. */
  #credit = { stream: 0, all: 0 };
  #sent = 0;
  #room: (() => void) | undefined;
  #begun = false;

  constructor(socket: WebSocket) {
    this.#socket = socket;
    this.ready = new Promise(resolve => {
      this.#begin = resolve;
    });
    this.closed = new Promise((resolve, reject) => {
      this.#end = resolve;
      this.#break = reject;
    });
    this.closed.catch(() => {});
    this.incomingUnidirectionalStreams = new ReadableStream(
      {
        start: controller => {
          this.#incoming = controller;
        },
      },
      // There are no more than the server may open.
      { highWaterMark: STREAMS },
    );
    socket.addEventListener('message', ({ data }) => this.#receive(data));
    socket.addEventListener('close', () => this.#finish(new TidingsError(LOST, 'the connection was cut off')));
    const parameters = concat(
      [
        [0x04, WINDOW],
        [0x05, STREAM_WINDOW],
        [0x07, STREAM_WINDOW],
        [0x09, STREAMS],
      ].map(([id, value]) => {
        const encoded = integers(value!);
        return concat([integers(id!, encoded.length), encoded]);
      }),
    );
    this.#write(integers(PARAMETERS, parameters.length), parameters);
  }

  async createBidirectionalStream() {
    const incoming = new Incoming(this, CONTROL);
    this.#streams.set(CONTROL, incoming);
    const writable = new WritableStream<Uint8Array>({
      write: chunk => this.#writeControl(chunk),
      close: () => this.#write(integers(STREAM | 0x07, CONTROL, this.#sent, 0)),
      abort: reason => this.send(RESET, CONTROL, codeOf(reason), this.#sent),
    });
    return { readable: incoming.readable, writable };
  }

  close({ closeCode = 0, reason = '' }: { closeCode?: number; reason?: string } = {}): void {
    if (this.#over) return;
    const text = new TextEncoder().encode(reason);
    this.#write(integers(CLOSE, closeCode, text.length), text);
    this.#finish({ closeCode, reason });
  }

  /** Sends a frame of integers. */
  send(...frame: (number | bigint)[]): void {
    this.#write(integers(...frame));
  }

  /** Bytes were read, or never will be. */
  consumed(bytes: number): void {
    this.#read += bytes;
    if (this.#read + WINDOW >= this.#limit + WINDOW / 2) {
      this.#limit = this.#read + WINDOW;
      this.send(MAX_DATA, this.#limit);
    }
  }

  /** All of a stream was read. */
  over(id: number): void {
    if (this.#streams.delete(id) && id !== CONTROL) {
      this.#done += 1;
      this.send(MAX_STREAMS_UNI, this.#done + STREAMS);
    }
  }

  #write(...parts: Uint8Array[]): void {
    if (this.#socket.readyState === WebSocket.OPEN) this.#socket.send(concat(parts));
  }

  async #writeControl(chunk: Uint8Array): Promise<void> {
    for (let rest = chunk; rest.length; ) {
      const size = Math.min(rest.length, RECORD, this.#credit.stream - this.#sent, this.#credit.all - this.#sent);
      if (this.#over) throw new TidingsError(LOST, 'the connection is over');
      if (size <= 0) {
        await new Promise<void>(resolve => {
          this.#room = resolve;
        });
        continue;
      }
      this.#write(integers(STREAM | 0x06, CONTROL, this.#sent, size), rest.subarray(0, size));
      this.#sent += size;
      rest = rest.subarray(size);
    }
  }

  #finish(end: TidingsError | { closeCode?: number; reason?: string }): void {
    if (this.#over) return;
    this.#over = true;
    const broken = end instanceof TidingsError;
    if (broken) this.#break(end);
    else this.#end(end);
    const error = broken ? end : new TidingsError(LOST, 'the connection is over');
    for (const stream of this.#streams.values()) stream.fail(error);
    this.#streams.clear();
    this.#incoming.error(error);
    this.#room?.();
    this.#socket.close();
  }

  #receive(data: unknown): void {
    if (this.#over) return;
    try {
      if (!(data instanceof ArrayBuffer)) throw new TidingsError(LOST, 'the server sent text where records are due');
      const record = new Integers(new Uint8Array(data));
      while (record.left) this.#take(record);
    } catch (error) {
      const text = new TextEncoder().encode(String((error as Error).message));
      this.#write(integers(VIOLATION, 0x0a, 0, text.length), text);
      this.#finish(
        error instanceof TidingsError ? error : new TidingsError(LOST, 'the server sent a record that does not decode'),
      );
    }
  }

  #take(record: Integers): void {
    const kind = record.big();
    const type = Number(kind);
    if (kind === PARAMETERS) this.#parameters(new Integers(record.counted()));
    else if (kind === PING) this.send(PONG, record.next());
    else if (kind === PONG) record.skip(1);
    else if (type >= STREAM && type <= (STREAM | 0x07)) this.#takeStream(type, record);
    else this.#takeWord(type, record);
  }

  /** A frame that is about streams or the connection, and carries nothing of them. */
  #takeWord(type: number, record: Integers): void {
    switch (type) {
      case 0x00:
        return;
      case RESET: {
        const [id, code] = [record.next(), record.next(), record.next()] as [number, number, number];
        this.#stream(id)?.reset(code);
        return;
      }
      case STOP: {
        // Nobody stops the control stream but to end the connection.
        record.skip(2);
        return;
      }
      case MAX_DATA:
        this.#permit('all', record.next());
        return;
      case MAX_STREAM_DATA:
        if (record.next() === CONTROL) this.#permit('stream', record.next());
        else record.skip(1);
        return;
      case MAX_STREAMS_BIDI:
      case MAX_STREAMS_UNI:
      case 0x14:
      case 0x16:
      case 0x17:
        record.skip(1);
        return;
      case 0x15:
        record.skip(2);
        return;
      case VIOLATION:
        record.skip(2);
        this.#finish(new TidingsError(LOST, `the server ended the connection: ${record.text()}`));
        return;
      case CLOSE: {
        const closeCode = record.next();
        this.#finish({ closeCode, reason: record.text() });
        return;
      }
    }
    throw new TidingsError(LOST, `the server sent a frame of type ${type}`);
  }

  #takeStream(type: number, record: Integers): void {
    const id = record.next();
    const offset = type & 0x04 ? record.next() : 0;
    const bytes = type & 0x02 ? record.counted() : record.rest();
    this.#received += bytes.length;
    if (this.#received > this.#limit) throw new TidingsError(LOST, 'the server sent more than it may');
    const stream = this.#stream(id);
    if (stream) stream.receive(offset, bytes, (type & 0x01) !== 0);
    else this.consumed(bytes.length);
  }

  /** A stream that bytes came for: the server opens its own by sending some. */
  #stream(id: number): Incoming | undefined {
    // Unidirectional and the server's; all before it are open, too.
    for (let index = id >> 2; (id & 3) === 3 && this.#opened <= index; this.#opened++) {
      if (this.#opened >= this.#done + STREAMS)
        throw new TidingsError(LOST, 'the server opens more streams than it may');
      const opened = new Incoming(this, this.#opened * 4 + 3);
      this.#streams.set(this.#opened * 4 + 3, opened);
      this.#incoming.enqueue(opened.readable);
    }
    return this.#streams.get(id);
  }

  #permit(what: 'stream' | 'all', max: number): void {
    this.#credit[what] = Math.max(this.#credit[what], max);
    this.#room?.();
    this.#room = undefined;
  }

  #parameters(list: Integers): void {
    if (this.#begun) throw new TidingsError(LOST, 'the server says twice what it permits');
    this.#begun = true;
    while (list.left) {
      const id = list.next();
      const value = new Integers(list.counted());
      if (id === 0x01) this.idleTimeout = value.next();
      if (id === 0x04) this.#permit('all', value.next());
      // Of a bidirectional stream that its peer opens.
      if (id === 0x06) this.#permit('stream', value.next());
    }
    this.#begin();
  }
}
