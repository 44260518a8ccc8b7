// The encoding of bodies (PROTOCOL §3.6): bincode 2 `config::standard()`, as codecs that are put together. A codec does both: what it is
// given it writes; where it reads, it is given nothing.

import { FRAME_TOO_LARGE, PROTOCOL_VIOLATION, TidingsError } from '../codes.ts';

/** What is wrong with bytes that are not what the specification says. All but `TooLarge` are a `protocol_violation` (§3.5). */
export type WireFault = 'Integer' | 'Empty' | 'TooLarge' | 'Body' | 'Truncated';

/** Bytes that are not what the specification says. */
export const wireError = (fault: WireFault): TidingsError =>
  new TidingsError(fault === 'TooLarge' ? FRAME_TOO_LARGE : PROTOCOL_VIOLATION, `not a frame: ${fault}`);

/** A body. One that is written takes values and returns them, one that is read passes over what it is given. */
export interface Wire {
  integer(value?: number | bigint): number | bigint;
  bytes(length: number, value?: ArrayLike<number>): Uint8Array;
}

/** How a type travels. Throws where bytes that are read do not fit. */
export type Codec<T> = (wire: Wire, value?: T) => T;

/** Any codec. */
type Some = (wire: Wire, value?: never) => unknown;
/** The type that a codec is for. */
export type Value<C extends Some> = ReturnType<C>;

/**
 * The integer at `at` with its width in bytes; `undefined` where it is cut off (PROTOCOL §3.5). Throws a {@link wireError} at a marker
 * that the protocol does not use.
 */
export const peek = (bytes: Uint8Array, at: number): [value: number | bigint, width: number] | undefined => {
  const first = bytes[at];
  if (first === undefined) return undefined;
  if (first < 251) return [first, 1];
  if (first > 253) throw wireError('Integer');
  const width = 1 << (first - 250);
  if (bytes.length <= at + width) return undefined;
  const reads = width < 4 ? 'getUint16' : width < 8 ? 'getUint32' : 'getBigUint64';
  return [new DataView(bytes.buffer, bytes.byteOffset + at + 1)[reads](0, true), width + 1];
};

/** The shortest form of an integer. */
const integer = (value: number | bigint): number[] => {
  if (value < 251) return [Number(value)];
  const power = value < 0x1_0000 ? 1 : value < 0x1_0000_0000 ? 2 : 3;
  const bytes = [250 + power];
  for (let rest = BigInt(value); bytes.length <= 1 << power; rest >>= 8n) bytes.push(Number(rest & 0xffn));
  return bytes;
};

/** Reads a body from `at` on. In the end nothing may be `left`: less than that is found by who read too far. */
export const reader = (bytes: Uint8Array, at: number): Wire & { left(): number } => ({
  left: () => bytes.length - at,
  integer() {
    const [value, width] = peek(bytes, at)!;
    at += width;
    return value;
  },
  // A copy: what is read keeps no buffer of a stream.
  bytes: length => bytes.slice(at, (at += length)),
});

/** Adds what is written to `parts`. */
export const writer = (parts: ArrayLike<number>[]): Wire => ({
  integer(value) {
    parts.push(integer(value!));
    return value!;
  },
  bytes(_, value) {
    parts.push(value!);
    return value as Uint8Array;
  },
});

/** Parts as one. */
export const concat = (parts: ArrayLike<number>[]): Uint8Array<ArrayBuffer> => {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
};

/** The value, where it fits its type. */
const fit = (value: number | bigint, most: number): number => {
  if (value < 0 || value > most) throw wireError('Body');
  return Number(value);
};

export const utf8 = new TextEncoder();
// A byte order mark is a character like any other.
const strict = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

const unsigned =
  (most: number): Codec<number> =>
  (wire, value) =>
    fit(wire.integer(value), most);

export const u8: Codec<number> = (wire, value) => wire.bytes(1, [value!])[0]!;
export const u16: Codec<number> = unsigned(0xffff);
export const u32: Codec<number> = unsigned(0xffff_ffff);
export const u64: Codec<bigint> = (wire, value) => BigInt(wire.integer(value));
/** A u64 that is a number to applications; the nearest one above 2^53, where it means nothing. */
export const number: Codec<number> = unsigned(Infinity);
/** A u64 that is an identity: 16 hexadecimal digits. */
export const digits: Codec<string> = (wire, value) =>
  BigInt(wire.integer(BigInt(`0x${value ?? 0}`)))
    .toString(16)
    .padStart(16, '0');
export const bool: Codec<boolean> = (wire, value) => fit(u8(wire, Number(value)), 1) > 0;
export const bytes: Codec<Uint8Array> = (wire, value) => wire.bytes(number(wire, value?.length), value);
export const string: Codec<string> = (wire, value) => strict.decode(bytes(wire, utf8.encode(value)));

// Each item begins with an integer, of which there are no more than bytes.
export const list =
  <T>(item: Codec<T>): Codec<T[]> =>
  (wire, values) => {
    const items: T[] = [];
    const count = number(wire, values?.length);
    while (items.length < count) items.push(item(wire, values?.[items.length]));
    return items;
  };

export const option =
  <T>(some: Codec<T>): Codec<T | undefined> =>
  (wire, value) =>
    bool(wire, value !== undefined) ? some(wire, value) : undefined;

type Fields = Record<string, Some>;
/** Names of the fields that may be absent. */
type Optional<F extends Fields> = { [K in keyof F]: undefined extends Value<F[K]> ? K : never }[keyof F];
/** An option that is none is absent. */
export type Struct<F extends Fields> = { [K in Exclude<keyof F, Optional<F>>]: Value<F[K]> } & {
  [K in Optional<F>]?: Exclude<Value<F[K]>, undefined>;
};

export const struct =
  <F extends Fields>(fields: F): Codec<Struct<F>> =>
  (wire, value) => {
    const found: Record<string, unknown> = {};
    for (const name in fields) {
      const field = fields[name]!(wire, (value as Record<string, never> | undefined)?.[name]);
      if (field !== undefined) found[name] = field;
    }
    return found as Struct<F>;
  };

type Variants<V extends Record<string, Fields>> = { [K in keyof V]: { kind: K } & Struct<V[K]> }[keyof V];

/** An enum: `kind` names the variant. Their order is that of their numbers. */
export const variants = <V extends Record<string, Fields>>(all: V): Codec<Variants<V>> => {
  const kinds = Object.keys(all);
  const number = unsigned(kinds.length - 1);
  return (wire, value) => {
    const kind = kinds[number(wire, kinds.indexOf(value?.kind as string))]!;
    return { kind, ...struct(all[kind]!)(wire, value as never) } as Variants<V>;
  };
};
