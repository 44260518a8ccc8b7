// Every frame of PROTOCOL §8: its number, and the type of its body.

import {
  bool,
  bytes,
  type Codec,
  list,
  option,
  peek,
  Reader,
  string,
  struct,
  u8,
  u16,
  u32,
  u64,
  type Value,
  variants,
  WireError,
  Writer,
} from './codec.ts';

export const HELLO = 0x01;
export const WELCOME = 0x02;
export const GO_AWAY = 0x03;
export const SUBSCRIBE = 0x10;
export const UNSUBSCRIBE = 0x11;
export const PUBLISH = 0x12;
export const PING = 0x13;
export const SUBSCRIBE_FROM = 0x14;
export const READ_HISTORY = 0x15;
export const PUBLISH_ONCE = 0x16;
export const REFRESH = 0x17;
export const PUBLISH_WITH = 0x18;
export const READ_PRESENCE = 0x19;
export const FAILED = 0x40;
export const SUBSCRIBED = 0x41;
export const UNSUBSCRIBED = 0x42;
export const PUBLISHED = 0x43;
export const PONG = 0x44;
export const HISTORY_PAGE = 0x45;
export const PUBLISHED_ONCE = 0x46;
export const REFRESHED = 0x47;
export const PRESENCE_PAGE = 0x48;
export const HEADER = 0x60;
export const PUBLICATION = 0x61;
export const LAGGED = 0x62;
export const END = 0x63;
export const SKIPPED = 0x64;
export const LANE = 0x65;
export const TURN = 0x66;
export const OWN = 0x67;

const position = struct({ epoch: u64, offset: u64 });
const member = struct({ id: u64, user: option(string) });
const line = { text: string, timestamp: u64 };
const members = list(member);
// PROTOCOL §3.4
const message = variants({
  notification: line,
  announcement: line,
  data: { contentType: string, bytes },
  presence: { joined: members, left: members, connections: u64, users: u64, complete: bool },
});
// PROTOCOL §4.10
const start = variants({ head: {}, after: { position }, latest: { count: u64 }, afterOrOldest: { position } });

const request = { request: u64 };
const channel = { ...request, channel: string };
const range = struct({ from: u64, to: u64 });
const published = { ...request, position, level: u8 };
const ended = { code: u32, reason: string };

const bodies = {
  [HELLO]: struct({ version: u16, token: option(string), client: string, features: list(string) }),
  [WELCOME]: struct({
    session: u64,
    user: option(string),
    server: string,
    features: list(string),
    limits: struct({ message: u64, frame: u64, subscriptions: u64 }),
    subscriptions: list(struct({ subscription: u64, channel: string, position })),
  }),
  [GO_AWAY]: struct({ code: u32, grace: u64 }),
  [SUBSCRIBE]: struct(channel),
  [UNSUBSCRIBE]: struct({ ...request, subscription: u64 }),
  [PUBLISH]: struct({ ...channel, message }),
  [PING]: struct(request),
  [SUBSCRIBE_FROM]: struct({ ...channel, start }),
  [READ_HISTORY]: struct({ ...channel, query: struct({ from: option(position), limit: u64, reverse: bool }) }),
  [PUBLISH_ONCE]: struct({ ...channel, key: string, message }),
  [REFRESH]: struct({ ...request, token: string }),
  [PUBLISH_WITH]: struct({ ...channel, key: option(string), conflationKey: option(string), echo: bool, message }),
  [READ_PRESENCE]: struct({ ...channel, limit: u64 }),
  [FAILED]: struct({ ...request, ...ended }),
  [SUBSCRIBED]: struct({ ...request, subscription: u64, position }),
  [UNSUBSCRIBED]: struct(request),
  [PUBLISHED]: struct(published),
  [PONG]: struct({ ...request, time: u64 }),
  [HISTORY_PAGE]: struct({
    ...request,
    kept: option(struct({ epoch: u64, first: u64, last: u64 })),
    complete: bool,
    count: u64,
  }),
  [PUBLISHED_ONCE]: struct({ ...published, duplicate: bool }),
  [REFRESHED]: struct({ ...request, expires: option(u64) }),
  [PRESENCE_PAGE]: struct({
    ...request,
    position: option(position),
    connections: u64,
    users: u64,
    members,
    complete: bool,
  }),
  [HEADER]: struct({
    subscription: u64,
    source: u8,
    name: string,
    epoch: u64,
    first: u64,
    recovered: bool,
    delivery: u8,
  }),
  [PUBLICATION]: struct({ offset: u64, time: u64, publisher: option(string), message }),
  [LAGGED]: range,
  [END]: struct(ended),
  [SKIPPED]: range,
  [LANE]: struct({ lane: u64 }),
  [TURN]: struct({ subscription: u64 }),
  [OWN]: range,
};

type Bodies = typeof bodies;

/** A place in a log, as it travels (PROTOCOL §3.3). */
export type WirePosition = Value<typeof position>;
/** A message, as it travels (PROTOCOL §3.4). */
export type WireMessage = Value<typeof message>;
/** A member of a channel with presence, as it travels. */
export type WireMember = Value<typeof member>;
/** Where a subscription begins (PROTOCOL §4.10). */
export type WireStart = Value<typeof start>;
/** The frame of this type number. */
export type FrameOf<T extends keyof Bodies> = T extends keyof Bodies ? { type: T } & Value<Bodies[T]> : never;
/** Any known frame; `type` is its number. */
export type Frame = { [T in keyof Bodies]: FrameOf<T> }[keyof Bodies];

/** The numbers of all known types. */
export const types = (): number[] => Object.keys(bodies).map(Number);

/** A whole frame: length, type, body. */
export function encode(frame: Frame): Uint8Array<ArrayBuffer> {
  const inner = new Writer();
  inner.integer(frame.type);
  (bodies[frame.type] as Codec<Frame>).write(inner, frame);
  const body = inner.done();
  const whole = new Writer();
  whole.integer(body.length);
  whole.put(body);
  return whole.done().slice();
}

/** A frame without its length; `undefined` for an unknown type. Throws a {@link WireError}. */
export function decode(bytes: Uint8Array): Frame | undefined {
  const type = peek(bytes, 0);
  if (!type) throw new WireError('Truncated');
  const codec: Codec<unknown> | undefined = bodies[Number(type[0]) as keyof Bodies];
  if (!codec) return undefined;
  const from = new Reader(bytes);
  from.at = type[1];
  let body: unknown;
  try {
    body = codec.read(from);
  } catch {
    throw new WireError('Body');
  }
  if (from.at < bytes.length) throw new WireError('Body');
  return Object.assign(body as Frame, { type: Number(type[0]) }) as Frame;
}

/**
 * A datagram (PROTOCOL §5.6): the id of its subscription, and its publication. `undefined` for everything else: nothing that arrives as
 * a datagram ends a connection.
 */
export function decodeDatagram(bytes: Uint8Array): [bigint, FrameOf<typeof PUBLICATION>] | undefined {
  try {
    const subscription = peek(bytes, 0);
    const length = subscription && peek(bytes, subscription[1]);
    if (!length) return undefined;
    const rest = bytes.subarray(subscription[1] + length[1]);
    const frame = Number(length[0]) === rest.length ? decode(rest) : undefined;
    return frame?.type === PUBLICATION ? [BigInt(subscription[0]), frame] : undefined;
  } catch {
    return undefined;
  }
}
