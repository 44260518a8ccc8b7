// One connection after `Welcome`: requests and answers, and the streams that the server opens.

import { isChannel } from './check.ts';
import { INVALID_ARGUMENT, LOST, PROTOCOL_VIOLATION, TidingsError, toError, unexpected } from './codes.ts';
import type { Early, Inboxes } from './datagram.ts';
import { type Frames, next, readStream } from './frames.ts';
import { close, closing, type Session } from './greet.ts';
import { CUT, EARLY, HEADER_BYTES, HEADER_TIME, LANES, LOOK, MAX_FRAME, OUTGOING, PAGE, PENDING } from './limits.ts';
import type { Call, Done, Line } from './line.ts';
import type { Registry, Server } from './registry.ts';
import { concat } from './wire/codec.ts';
import {
  encode,
  FAILED,
  type Frame,
  type FrameOf,
  GO_AWAY,
  HEADER,
  HISTORY_PAGE,
  LANE,
  PING,
  PONG,
  PUBLICATION,
  type Request,
  SUBSCRIBE_FROM,
  SUBSCRIBED,
  UNSUBSCRIBE,
  UNSUBSCRIBED,
} from './wire/frames.ts';

export interface Link {
  /** Asks for a sign of life, which is to come soon. */
  ping(): void;
  /** Ends it. */
  end(error: TidingsError): void;
  /** Why it is over, once it is. */
  readonly over: Promise<TidingsError>;
}

/** Serves user code until the connection is over. `timed` hears of the server's clock minus that of this machine, in ms. */
export const serve = (
  [transport, welcome, receive, writer, watch]: Session,
  registry: Registry,
  line: Line,
  timed: (skew: number) => void,
): Link => {
  const pending = new Map<bigint, [type: number, Done]>();
  const timers = new Set<ReturnType<typeof setTimeout>>();
  let inboxes: Inboxes | undefined;
  const early: Early = [];
  const batch: Uint8Array[] = [];
  let last = 0n;
  let unsent = 0;
  let lanes = 0;
  let error: TidingsError | undefined;
  let end!: (error: TidingsError) => void;
  const ends = new Promise<TidingsError>(resolve => (end = resolve));

  const request = (type: Frame['type'], frame: Request, done: Done) => {
    if (error) return;
    let bytes: Uint8Array;
    try {
      bytes = encode({ ...frame, request: ++last });
    } catch (error) {
      // There is no such message, and never will be.
      return done(new TidingsError(INVALID_ARGUMENT, String(error)));
    }
    pending.set(last, [type, done]);
    if (pending.size > PENDING) end(new TidingsError(PROTOCOL_VIOLATION, 'the server does not answer'));
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
    for (let call: Call | undefined; !error && unsent < OUTGOING && (call = line.take()); ) request(...call);
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
      if (!('request' in frame)) throw unexpected(frame);
      const [type, done] = pending.get(frame.request) ?? [];
      const publications: FrameOf<typeof PUBLICATION>[] = [];
      if (frame.type === HISTORY_PAGE) {
        if (!done || frame.count > PAGE) throw unexpected(frame, PROTOCOL_VIOLATION);
        while (publications.length < frame.count) {
          const publication = await receive();
          if (publication.type !== PUBLICATION) throw unexpected(publication);
          publications.push(publication);
        }
      }
      pending.delete(frame.request);
      const answer = frame.type === type ? frame : unexpected(frame, PROTOCOL_VIOLATION);
      done?.(frame.type === FAILED ? new TidingsError(frame.code, frame.reason) : answer, publications);
    }
  };

  const begins = (header: FrameOf<typeof HEADER>, frames: Frames) => {
    if (error || header.source > 1 || header.delivery > 2 || !isChannel(header.name)) return frames.stop();
    if (header.delivery === 2) frames = inboxes!.open(header.subscription, frames);
    registry.arrived({ ...header, frames, server });
  };
  /** Classifies a stream by its header (PROTOCOL §5). */
  const stream = async (body: ReadableStream<Uint8Array>) => {
    const stream = readStream(body, HEADER_BYTES, watch.heard);
    const timer = setTimeout(stream.stop, HEADER_TIME);
    const first = await next(stream);
    clearTimeout(timer);
    stream.cutter.limit = MAX_FRAME;
    // Both are loaded where a server needs them: few channels go by datagram, and browsers permit a hundred streams without lanes.
    const header = first?.type === HEADER ? first : undefined;
    const lane = first?.type === LANE;
    if (lane || header?.delivery === 2) {
      const { newInboxes } = await import('./datagram.ts');
      inboxes ??= newInboxes(early);
    }
    if (header) {
      begins(header, stream);
    } else if (lane && lanes < LANES) {
      lanes++;
      await (await import('./lane.ts')).readLane(stream, begins, server.unsubscribe);
      lanes--;
    } else {
      stream.stop();
    }
  };
  const datagram = (bytes: Uint8Array) => {
    watch.heard();
    if (inboxes) inboxes.put(bytes);
    else if (early.push(bytes) > EARLY) early.shift();
  };

  const ping = () => {
    watch.asked(Date.now());
    request(PONG, { type: PING }, answer => {
      watch.answered();
      if ('time' in answer) timed(answer.time - Date.now());
    });
  };
  const server: Server = {
    unsubscribe: subscription => request(UNSUBSCRIBED, { type: UNSUBSCRIBE, subscription }, () => {}),
    subscribe: (channel, start, answered) =>
      request(SUBSCRIBED, { type: SUBSCRIBE_FROM, channel, start }, answered as Done),
    later(ms, then) {
      if (error) return;
      const timer = setTimeout(() => {
        timers.delete(timer);
        then();
      }, ms);
      timers.add(timer);
    },
  };

  // The smaller of what both layers permit; 0 is no limit (RFC 9000 §18.2).
  const idle = Math.min(welcome.idleTimeout || Infinity, transport.idleTimeout || Infinity);
  const looks = setInterval(
    () => {
      const look = watch.look(Date.now(), idle);
      if (look === 'ask') ping();
      else if (look) end(new TidingsError(LOST, 'the server does not answer'));
    },
    Math.min(LOOK, idle / 6),
  );
  const over = ends.then(reason => {
    error = reason;
    clearInterval(looks);
    for (const timer of timers) clearTimeout(timer);
    const interrupted = new TidingsError(LOST, `${reason.message}: whether it was done is not known`);
    for (const [, done] of pending.values()) done(interrupted);
    // What is answered all the same is heard by nobody.
    pending.clear();
    close(transport, reason);
    return reason;
  });
  registry.connected(server, welcome.subscriptions);
  line.arrived = take;
  void closing(transport).then(end);
  control().catch(end);
  // Never waits for the body of one before it takes the next.
  each(transport.incomingUnidirectionalStreams, body => void stream(body).catch(error => end(toError(error))));
  each(transport.datagrams?.readable, datagram);
  ping();
  take();
  return { ping, end, over };
};

/** Gives to `take` what comes, as it comes. How it ends is told by the end of the connection. */
const each = <T>(stream: ReadableStream<T> | undefined, take: (value: T) => void): void => {
  stream?.pipeTo(new WritableStream({ write: take })).catch(() => {});
};
