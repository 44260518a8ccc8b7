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
import {
  END,
  FAILED,
  GO_AWAY,
  HEADER,
  HELLO,
  HISTORY_PAGE,
  LAGGED,
  LANE,
  OWN,
  PING,
  PONG,
  PRESENCE_PAGE,
  PUBLICATION,
  PUBLISH_WITH,
  PUBLISHED_ONCE,
  READ_HISTORY,
  READ_PRESENCE,
  REFRESH,
  REFRESHED,
  SKIPPED,
  SUBSCRIBE_FROM,
  SUBSCRIBED,
  TURN,
  UNSUBSCRIBE,
  UNSUBSCRIBED,
  WELCOME,
} from './types.ts';

export * from './types.ts';

const position = struct({ epoch: digits, offset: u64 });
const member = struct({ id: digits, user: option(string) });
const line = { text: string, timestamp: number };
const members = list(member);
const attendance = { connections: number, users: number };
// PROTOCOL §3.4
const message = variants({
  notification: line,
  announcement: line,
  data: { contentType: string, bytes },
  presence: { joined: members, left: members, ...attendance, complete: bool },
});
// PROTOCOL §4.10
const start = variants({ head: {}, after: { position }, latest: { count: u64 }, afterOrOldest: { position } });

const request = { request: u64 };
const channel = { ...request, channel: string };
const subscription = { subscription: u64 };
const range = { from: u64, to: u64 };
const ended = { code: u32, reason: string };

/** The fields of each body; of those frames that this client says, or is told, by others there are none. */
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
  [READ_HISTORY]: { ...channel, query: struct({ from: option(position), limit: u64, reverse: bool }) },
  [REFRESH]: { ...request, token: string },
  [PUBLISH_WITH]: { ...channel, key: option(string), conflationKey: option(string), echo: bool, message },
  [READ_PRESENCE]: { ...channel, limit: u64 },
  [FAILED]: { ...request, ...ended },
  [SUBSCRIBED]: { ...request, ...subscription, position },
  [UNSUBSCRIBED]: request,
  [PONG]: { ...request, time: number },
  [HISTORY_PAGE]: {
    ...request,
    kept: option(struct({ epoch: digits, first: u64, last: u64 })),
    complete: bool,
    count: number,
  },
  [PUBLISHED_ONCE]: { ...request, position, level: u8, duplicate: bool },
  [REFRESHED]: { ...request, expires: option(number) },
  [PRESENCE_PAGE]: { ...request, position: option(position), ...attendance, members, complete: bool },
  [HEADER]: { ...subscription, source: u8, name: string, epoch: digits, first: u64, recovered: bool, delivery: u8 },
  [PUBLICATION]: { offset: u64, time: number, publisher: option(string), message },
  [LAGGED]: range,
  [END]: ended,
  [SKIPPED]: range,
  [LANE]: { lane: u64 },
  [TURN]: subscription,
  [OWN]: range,
};

type Bodies = typeof bodies;
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

/** The numbers of all known types. */
export const types = (): number[] => Object.keys(bodies).map(Number);

/** A whole frame: length, type, body. */
export const encode = (frame: Written<Frame> | (Request & { request: bigint })): Uint8Array<ArrayBuffer> => {
  const parts: ArrayLike<number>[] = [];
  const to = writer(parts);
  to.integer(frame.type);
  struct(bodies[frame.type] as Body)(to, frame as Struct<Body>);
  bytes(to, concat(parts.splice(0)));
  return concat(parts);
};

/** A frame without its length; `undefined` for an unknown type. Throws a {@link wireError}. */
export const decode = (inner: Uint8Array): Frame | undefined => {
  const found = peek(inner, 0);
  if (!found) throw wireError('Truncated');
  const type = Number(found[0]) as keyof Bodies;
  const fields = bodies[type] as Body | undefined;
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

/**
 * A datagram (PROTOCOL §5.6): the id of its subscription, and its publication. `undefined` for everything else: nothing that arrives as
 * a datagram ends a connection.
 */
export const decodeDatagram = (datagram: Uint8Array): [bigint, FrameOf<typeof PUBLICATION>] | undefined => {
  try {
    const from = reader(datagram, 0);
    const subscription = u64(from);
    const frame = decode(bytes(from));
    return frame?.type === PUBLICATION && !from.left() ? [subscription, frame] : undefined;
  } catch {
    return undefined;
  }
};
