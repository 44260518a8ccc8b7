// One connection after `Welcome`: requests and answers, and the streams that the server opens.

import { backoff } from './backoff.ts';
import { FRAME_TOO_LARGE, GOING_AWAY, LOST, PROTOCOL_VIOLATION, TidingsError, UNEXPECTED_FRAME } from './codes.ts';
import { type Frames, next, StreamReader } from './frames.ts';
import { closing, ended, MAX_FRAME, type Session } from './greet.ts';
import { readLane } from './lane.ts';
import type { Call, Line } from './line.ts';
import { isChannel } from './position.ts';
import type { Registry, Server } from './registry.ts';
import { Watch } from './watch.ts';
import {
  decodeDatagram,
  encode,
  FAILED,
  type Frame,
  type FrameOf,
  GO_AWAY,
  HEADER,
  HISTORY_PAGE,
  LANE,
  PING,
  PUBLICATION,
  SUBSCRIBE,
  SUBSCRIBE_FROM,
  SUBSCRIBED,
  UNSUBSCRIBE,
  type WireStart,
} from './wire/frames.ts';

/** Longest header, in bytes, and the time in ms that it may take; the stream is given up otherwise. */
const HEADER_BYTES = 4096;
const HEADER_TIME = 10_000;
/** Most lanes of a connection: a server has one for each priority. */
const LANES = 8;
/** How long in ms after a stream was cut off its connection is taken to live on. */
const CUT = 1_000;
/** Bytes of requests that wait to be written; above it no further request is taken. */
const OUTGOING = 256 * 1024;
/** Most requests that are not answered. */
const PENDING = 100_000;
/** Most publications of a page of history (PROTOCOL §4.11). */
const PAGE = 256n;

/** A page whose publications are to follow. */
interface Page {
  frame: FrameOf<typeof HISTORY_PAGE>;
  publications: FrameOf<typeof PUBLICATION>[];
  done: Call['done'];
}

export class Link implements Server {
  /** Clock of the server minus that of this machine, in ms, once it is known. */
  skew = 0;
  /** Called once it is. */
  timed: () => void = () => {};
  readonly #session: Session;
  readonly #registry: Registry;
  readonly #line: Line;
  readonly #watch: Watch = new Watch(Date.now());
  #pending = new Map<bigint, Call['done']>();
  #last = 0n;
  #page: Page | undefined;
  #batch: Uint8Array[] = [];
  #unsent = 0;
  #lanes = 0;
  #timers = new Set<ReturnType<typeof setTimeout>>();
  #over!: (error: TidingsError) => void;
  readonly #end: Promise<TidingsError> = new Promise(resolve => {
    this.#over = resolve;
  });
  /** Why it is over, once it is. */
  #error: TidingsError | undefined;

  constructor(session: Session, registry: Registry, line: Line) {
    this.#session = session;
    this.#registry = registry;
    this.#line = line;
  }

  /** Serves user code until the connection is over; why. */
  async run(): Promise<TidingsError> {
    const { transport, welcome } = this.#session;
    const watch = setInterval(() => this.#look(), 1_000);
    this.#registry.connected(this, welcome.subscriptions);
    this.#line.arrived = () => this.#take();
    void closing(transport).then(this.#over);
    void this.#control();
    void this.#streams();
    void this.#datagrams();
    this.ping();
    this.#take();
    const error = await this.#end;
    this.#error = error;
    clearInterval(watch);
    for (const timer of this.#timers) clearTimeout(timer);
    this.#line.arrived = () => {};
    this.#registry.disconnected();
    const interrupted = new TidingsError(LOST, `${error.message}: whether the request was carried out is not known`);
    for (const done of this.#pending.values()) done(interrupted);
    this.#page?.done(interrupted);
    transport.close({ closeCode: Math.max(error.code, 0), reason: error.message.slice(0, 200) });
    return error;
  }

  /** Ends it. */
  close(error: TidingsError): void {
    this.#over(error);
  }

  /** Asks for a sign of life, which is to come soon. */
  ping(): void {
    this.#watch.asked(Date.now());
    this.#request(
      request => ({ type: PING, request }),
      answer => {
        if (this.#error) return;
        this.#watch.answered();
        if ('time' in answer) this.skew = Number(answer.time) - Date.now();
        this.timed();
        this.timed = () => {};
      },
    );
  }

  unsubscribe(subscription: bigint): void {
    this.#request(
      request => ({ type: UNSUBSCRIBE, request, subscription }),
      () => {},
    );
  }

  subscribe(channel: string, start: WireStart): void {
    this.#request(
      request =>
        start.kind === 'head'
          ? { type: SUBSCRIBE, request, channel }
          : { type: SUBSCRIBE_FROM, request, channel, start },
      answer => {
        if (this.#error) return;
        if (!(answer instanceof TidingsError)) {
          if (answer.type === SUBSCRIBED) this.#registry.subscribed(channel, answer.subscription, answer.position);
        } else if (answer.code !== GOING_AWAY && this.#registry.refused(channel, answer)) {
          // Where the server goes away, the next connection asks again.
          this.#after(CUT + backoff(4), () => this.#registry.askAgain(channel));
        }
      },
    );
  }

  later(then: () => void): void {
    this.#after(CUT, then);
  }

  #after(ms: number, then: () => void): void {
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      then();
    }, ms);
    this.#timers.add(timer);
  }

  #look(): void {
    const look = this.#watch.look(Date.now(), this.#session.heard.count);
    if (look === 'ask') this.ping();
    if (look === 'lost') this.#over(new TidingsError(LOST, 'the server does not answer'));
  }

  /** Takes requests of user code while there is room. */
  #take(): void {
    for (;;) {
      const call = this.#unsent < OUTGOING ? this.#line.take() : undefined;
      if (!call) return;
      this.#request(call.make, call.done);
    }
  }

  #request(make: Call['make'], done: Call['done']): void {
    const request = ++this.#last;
    this.#pending.set(request, done);
    if (this.#pending.size > PENDING) this.#violated('the server answers nothing');
    const bytes = encode(make(request));
    this.#unsent += bytes.length;
    if (this.#batch.push(bytes) === 1) queueMicrotask(() => this.#write());
  }

  async #write(): Promise<void> {
    const whole = new Uint8Array(this.#batch.reduce((sum, bytes) => sum + bytes.length, 0));
    let at = 0;
    for (const bytes of this.#batch.splice(0)) {
      whole.set(bytes, at);
      at += bytes.length;
    }
    try {
      await this.#session.writer.write(whole);
      this.#unsent -= whole.length;
      this.#take();
    } catch {
      // Told by the end of the connection.
    }
  }

  #violated(reason: string, code = PROTOCOL_VIOLATION): void {
    this.#over(new TidingsError(code, reason));
  }

  async #control(): Promise<void> {
    const { control, transport } = this.#session;
    for (let frame = await next(control); frame; frame = await next(control)) this.#answer(frame);
    if (control.fault)
      this.#violated(control.fault.message, control.fault.fault === 'TooLarge' ? FRAME_TOO_LARGE : undefined);
    else this.#over(await ended(transport));
  }

  /** What the server sends on the control stream. */
  #answer(frame: Frame): void {
    if (this.#page) {
      if (frame.type !== PUBLICATION) {
        this.#violated('a frame between the publications of a page', UNEXPECTED_FRAME);
        return;
      }
      this.#page.publications.push(frame);
      this.#turnPage();
    } else if (frame.type === GO_AWAY) {
      // The streams say when they end, and the connection with which code; this is for a server that does not.
      this.#after(Number(frame.grace) + CUT, () => this.#over(new TidingsError(frame.code, 'the server goes away')));
    } else if (!('request' in frame)) {
      this.#violated(`frame ${frame.type} is not for a server to send now`, UNEXPECTED_FRAME);
    } else {
      const done = this.#pending.get(frame.request);
      this.#pending.delete(frame.request);
      if (frame.type === FAILED) {
        done?.(new TidingsError(frame.code, frame.reason));
      } else if (frame.type !== HISTORY_PAGE) {
        done?.(frame);
      } else if (done && frame.count <= PAGE) {
        this.#page = { frame, publications: [], done };
        this.#turnPage();
      } else {
        this.#violated('a page of history that was not asked for');
      }
    }
  }

  /** Hands over a page that is complete. */
  #turnPage(): void {
    const page = this.#page!;
    if (page.frame.count > page.publications.length) return;
    this.#page = undefined;
    page.done(page.frame, page.publications);
  }

  async #streams(): Promise<void> {
    const streams = this.#session.transport.incomingUnidirectionalStreams.getReader();
    try {
      for (;;) {
        const { value, done } = await streams.read();
        if (done) return;
        // Never waits for the body of one before it takes the next.
        void this.#stream(value);
      }
    } catch {
      // Told by the end of the connection.
    }
  }

  /** Classifies a stream by its header (PROTOCOL §5). */
  async #stream(body: ReadableStream<Uint8Array>): Promise<void> {
    const stream = new StreamReader(body, HEADER_BYTES, () => this.#session.heard.count++);
    const timer = setTimeout(() => stream.stop(), HEADER_TIME);
    const first = await next(stream);
    clearTimeout(timer);
    stream.limit = MAX_FRAME;
    if (first?.type === HEADER) {
      this.#begins(first, stream);
    } else if (first?.type === LANE && this.#lanes < LANES) {
      this.#lanes++;
      await readLane(
        stream,
        (header, part) => this.#begins(header, part),
        id => this.unsubscribe(id),
      );
      this.#lanes--;
    } else {
      stream.stop();
    }
  }

  #begins(header: FrameOf<typeof HEADER>, frames: Frames): void {
    if (this.#error || header.source > 1 || header.delivery > 2 || !isChannel(header.name)) frames.stop();
    else this.#registry.arrived({ header, frames, connection: this.#registry.connection });
  }

  async #datagrams(): Promise<void> {
    const datagrams = this.#session.transport.datagrams?.readable.getReader();
    try {
      for (;;) {
        const { value, done } = (await datagrams?.read()) ?? { done: true };
        if (done || this.#error) return;
        this.#session.heard.count++;
        const found = value && decodeDatagram(value);
        if (found) this.#registry.datagrams.put(...found);
      }
    } catch {
      // As above.
    }
  }
}
