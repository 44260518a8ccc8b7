// One connection after `Welcome`: requests and answers, and the streams that the server opens.

import { LOST, PROTOCOL_VIOLATION, TidingsError, UNEXPECTED_FRAME } from './codes.ts';
import { newInboxes } from './datagram.ts';
import { type Frames, next, readStream } from './frames.ts';
import { close, closing, type Session } from './greet.ts';
import { readLane } from './lane.ts';
import { CUT, HEADER_BYTES, HEADER_TIME, LANES, LOOK, MAX_FRAME, OUTGOING, PAGE, PENDING } from './limits.ts';
import type { Call, Done, Line } from './line.ts';
import { isChannel } from './position.ts';
import type { Registry, Server } from './registry.ts';
import { newWatch } from './watch.ts';
import { concat } from './wire/codec.ts';
import {
  decodeDatagram,
  encode,
  FAILED,
  type FrameOf,
  GO_AWAY,
  HEADER,
  HISTORY_PAGE,
  LANE,
  PING,
  PUBLICATION,
  SUBSCRIBE_FROM,
  UNSUBSCRIBE,
} from './wire/frames.ts';

export interface Link {
  /** Asks for a sign of life, which is to come soon. */
  ping(): void;
  /** Ends it. */
  close(error: TidingsError): void;
  /** Why it is over, once it is. */
  readonly over: Promise<TidingsError>;
}

/** Serves user code until the connection is over. `timed` hears once of the server's clock minus that of this machine, in ms. */
export function serve(
  { transport, welcome, receive, writer, heard }: Session,
  registry: Registry,
  line: Line,
  timed: (skew: () => number) => void,
): Link {
  const pending = new Map<bigint, Done>();
  const timers = new Set<ReturnType<typeof setTimeout>>();
  const watch = newWatch(Date.now());
  const inboxes = newInboxes();
  const batch: Uint8Array[] = [];
  let last = 0n;
  let unsent = 0;
  let lanes = 0;
  let skew = 0;
  let error: TidingsError | undefined;
  let end!: (error: TidingsError) => void;
  const ends = new Promise<TidingsError>(resolve => (end = resolve));

  const request = (...[frame, done, writes]: Call) => {
    if (error) return;
    writes?.();
    const bytes = encode({ ...frame, request: ++last });
    pending.set(last, done);
    if (pending.size > PENDING) end(new TidingsError(PROTOCOL_VIOLATION, 'the server answers nothing'));
    unsent += bytes.length;
    if (batch.push(bytes) === 1) queueMicrotask(write);
  };
  const write = async () => {
    const whole = concat(batch.splice(0));
    try {
      await writer.write(whole);
      unsent -= whole.length;
      take();
    } catch {
      // Told by the end of the connection.
    }
  };
  /** Takes requests of user code while there is room. */
  const take = () => {
    for (let call: Call | undefined; unsent < OUTGOING && (call = line.take()); ) request(...call);
  };

  /** What the server sends on the control stream. */
  const control = async () => {
    for (;;) {
      const frame = await receive();
      if (frame.type === GO_AWAY) {
        // The streams say when they end, and the connection with which code; this is for a server that does not.
        server.later(frame.grace + CUT, () => end(new TidingsError(frame.code, 'the server goes away')));
        continue;
      }
      if (!('request' in frame)) throw new TidingsError(UNEXPECTED_FRAME, `frame ${frame.type} is not due`);
      const done = pending.get(frame.request);
      const publications: FrameOf<typeof PUBLICATION>[] = [];
      if (frame.type === HISTORY_PAGE) {
        if (!done || frame.count > PAGE) throw new TidingsError(PROTOCOL_VIOLATION, 'a page that was not asked for');
        while (publications.length < frame.count) {
          const publication = await receive();
          if (publication.type !== PUBLICATION) throw new TidingsError(UNEXPECTED_FRAME, 'a page is not complete');
          publications.push(publication);
        }
      }
      pending.delete(frame.request);
      done?.(frame.type === FAILED ? new TidingsError(frame.code, frame.reason) : frame, publications);
    }
  };

  const begins = (header: FrameOf<typeof HEADER>, frames: Frames) => {
    const { subscription, source, name, delivery } = header;
    if (error || source > 1 || delivery > 2 || !isChannel(name)) return frames.stop();
    if (delivery === 2) frames = inboxes.open(subscription, frames);
    registry.arrived({ header, frames, server });
  };
  /** Classifies a stream by its header (PROTOCOL §5). */
  const stream = async (body: ReadableStream<Uint8Array>) => {
    const stream = readStream(body, HEADER_BYTES, () => heard.count++);
    const timer = setTimeout(stream.stop, HEADER_TIME);
    const first = await next(stream);
    clearTimeout(timer);
    stream.cutter.limit = MAX_FRAME;
    if (first?.type === HEADER) {
      begins(first, stream);
    } else if (first?.type === LANE && lanes < LANES) {
      lanes++;
      await readLane(stream, begins, server.unsubscribe);
      lanes--;
    } else {
      stream.stop();
    }
  };
  const datagram = (bytes: Uint8Array) => {
    heard.count++;
    const found = decodeDatagram(bytes);
    if (found) inboxes.put(...found);
  };

  const ping = () => {
    watch.asked(Date.now());
    request({ type: PING }, answer => {
      watch.answered();
      if ('time' in answer) skew = answer.time - Date.now();
      timed(() => skew);
      timed = () => {};
    });
  };
  const server: Server = {
    unsubscribe: subscription => request({ type: UNSUBSCRIBE, subscription }, () => {}),
    subscribe: (channel, start, answered) => request({ type: SUBSCRIBE_FROM, channel, start }, answered),
    later(ms, then) {
      if (error) return;
      const timer = setTimeout(() => {
        timers.delete(timer);
        then();
      }, ms);
      timers.add(timer);
    },
  };

  const looks = setInterval(() => {
    const look = watch.look(Date.now(), heard.count);
    if (look === 'ask') ping();
    if (look === 'lost') end(new TidingsError(LOST, 'the server does not answer'));
  }, LOOK);
  const over = ends.then(reason => {
    error = reason;
    clearInterval(looks);
    for (const timer of timers) clearTimeout(timer);
    line.arrived = () => {};
    const interrupted = new TidingsError(LOST, `${reason.message}: whether the request was carried out is not known`);
    for (const done of pending.values()) done(interrupted, []);
    close(transport, reason);
    return reason;
  });
  registry.connected(server, welcome.subscriptions);
  line.arrived = take;
  void closing(transport).then(end);
  control().catch(end);
  // Never waits for the body of one before it takes the next.
  each(transport.incomingUnidirectionalStreams, body => void stream(body));
  each(transport.datagrams?.readable, datagram);
  ping();
  take();
  return { ping, close: end, over };
}

/** Gives to `take` what comes, as it comes. How it ends is told by the end of the connection. */
function each<T>(stream: ReadableStream<T> | undefined, take: (value: T) => void): void {
  stream?.pipeTo(new WritableStream({ write: take })).catch(() => {});
}
