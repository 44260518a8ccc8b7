// The frames of PROTOCOL §8: their numbers, and the types of their bodies.

import {
  bool,
  bytes,
  type Codec,
  concat,
  digits,
  list,
  number,
  option,
  peek,
  reader,
  type Struct,
  string,
  struct,
  u8,
  u16,
  u32,
  u64,
  type Value,
  variants,
  wireError,
  writer,
} from './codec.ts';
import type { Rare } from './rare.ts';
import {
  END,
  FAILED,
  GO_AWAY,
  HEADER,
  HELLO,
  LAGGED,
  LANE,
  OWN,
  PING,
  PONG,
  PUBLICATION,
  PUBLISH_WITH,
  PUBLISHED_ONCE,
  SKIPPED,
  SUBSCRIBE_FROM,
  SUBSCRIBED,
  TURN,
  UNSUBSCRIBE,
  UNSUBSCRIBED,
  WELCOME,
} from './types.ts';

export * from './types.ts';

export const position = struct({ epoch: digits, offset: u64 });
const member = struct({ id: digits, user: option(string) });
const line = { text: string, timestamp: number };
export const members = list(member);
export const attendance = { connections: number, users: number };
// PROTOCOL §3.4
const message = variants({
  notification: line,
  announcement: line,
  data: { contentType: string, bytes },
  presence: { joined: members, left: members, ...attendance, complete: bool },
});
// PROTOCOL §4.10
const start = variants({ head: {}, after: { position }, latest: { count: u64 }, afterOrOldest: { position } });

export const request = { request: u64 };
export const channel = { ...request, channel: string };
const subscription = { subscription: u64 };
const range = { from: u64, to: u64 };
const ended = { code: u32, reason: string };

/** The fields of each body; `requests.ts` adds those of {@link Rare}. Of those frames that this client says, or is told, by others there are none. */
export const bodies = {
  [HELLO]: { version: u16, token: option(string), client: string, features: list(string) },
  [WELCOME]: {
    session: digits,
    user: option(string),
    server: string,
    features: list(string),
    limits: struct({ message: number, frame: number, subscriptions: number }),
    subscriptions: list(struct({ ...subscription, channel: string, position })),
    expires: option(number),
    idleTimeout: number,
    refused: list(struct({ channel: string, code: u32, reason: string })),
  },
  [GO_AWAY]: { code: u32, grace: number },
  [UNSUBSCRIBE]: { ...request, ...subscription },
  [PING]: request,
  [SUBSCRIBE_FROM]: { ...channel, start },
  [PUBLISH_WITH]: { ...channel, key: option(string), conflationKey: option(string), echo: bool, message },
  [FAILED]: { ...request, ...ended },
  [SUBSCRIBED]: { ...request, ...subscription, position },
  [UNSUBSCRIBED]: request,
  [PONG]: { ...request, time: number },
  [PUBLISHED_ONCE]: { ...request, position, level: u8, duplicate: bool },
  [HEADER]: { ...subscription, source: u8, name: string, epoch: digits, first: u64, recovered: bool, delivery: u8 },
  [PUBLICATION]: { offset: u64, time: number, publisher: option(string), message },
  [LAGGED]: range,
  [END]: ended,
  [SKIPPED]: range,
  [LANE]: { lane: u64 },
  [TURN]: subscription,
  [OWN]: range,
};

type Bodies = typeof bodies & Rare;
/** Of any frame. */
type Body = Record<string, Codec<unknown>>;

/** A place in a log, as it travels (PROTOCOL §3.3). */
export type WirePosition = Value<typeof position>;
/** A message (PROTOCOL §3.4). */
export type WireMessage = Value<typeof message>;
/** Where a subscription begins (PROTOCOL §4.10). */
export type WireStart = Value<typeof start>;
/** The frame of this type number. */
export type FrameOf<T extends keyof Bodies> = T extends keyof Bodies ? { type: T } & Struct<Bodies[T]> : never;
/** Any known frame; `type` is its number. */
export type Frame = { [T in keyof Bodies]: FrameOf<T> }[keyof Bodies];

/** The same to be written: what may be absent may be `undefined`. */
type Written<T> = { [K in keyof T]: object extends Pick<T, K> ? T[K] | undefined : T[K] };
/** A request without its number, which it is given when it is written. */
export type Request = {
  [T in keyof Bodies]: Bodies[T] extends typeof request ? Written<Omit<FrameOf<T>, 'request'>> : never;
}[keyof Bodies];

/** The fields of every known type, by its number. */
const known = bodies as unknown as Record<number, Body | undefined>;

/** The numbers of all known types. */
export const types = (): number[] => Object.keys(bodies).map(Number);

/** A whole frame: length, type, body. */
export const encode = (frame: Written<Frame> | (Request & { request: bigint })): Uint8Array<ArrayBuffer> => {
  const parts: ArrayLike<number>[] = [];
  const to = writer(parts);
  to.integer(frame.type);
  struct(known[frame.type]!)(to, frame as Struct<Body>);
  bytes(to, concat(parts.splice(0)));
  return concat(parts);
};

/** A frame without its length; `undefined` for an unknown type. Throws a {@link wireError}. */
export const decode = (inner: Uint8Array): Frame | undefined => {
  const found = peek(inner, 0);
  if (!found) throw wireError('Truncated');
  const type = Number(found[0]);
  const fields = known[type];
  if (!fields) return undefined;
  const from = reader(inner, found[1]);
  try {
    const frame = { type, ...struct(fields)(from) } as Frame;
    if (!from.left()) return frame;
  } catch {
    // As below.
  }
  throw wireError('Body');
};
