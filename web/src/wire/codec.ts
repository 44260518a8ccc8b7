// The encoding of bodies (PROTOCOL §3.6): bincode 2 `config::standard()`, as codecs that are put together.

/** What is wrong with bytes that are not what the specification says. All but `TooLarge` are a `protocol_violation` (§3.5). */
export type WireFault = 'Integer' | 'Empty' | 'TooLarge' | 'Body' | 'Truncated';

/** Bytes that are not what the specification says. */
export class WireError extends Error {
  readonly fault: WireFault;

  constructor(fault: WireFault) {
    super(`bytes of the server break the protocol: ${fault}`);
    this.fault = fault;
  }
}

/** How a type is read and written. */
export interface Codec<T> {
  read(from: Reader): T;
  write(to: Writer, value: T): void;
}

/** The type that a codec reads and writes. */
export type Value<C> = C extends Codec<infer T> ? T : never;

/**
 * The integer at `at` with its width in bytes; `undefined` where it is cut off (PROTOCOL §3.5). Throws a {@link WireError} at a marker
 * that the protocol does not use.
 */
export function peek(bytes: Uint8Array, at: number): [value: number | bigint, width: number] | undefined {
  const first = bytes[at];
  if (first === undefined) return undefined;
  if (first < 251) return [first, 1];
  if (first > 253) throw new WireError('Integer');
  const width = 1 << (first - 250);
  if (bytes.length <= at + width) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset + at + 1, width);
  const value = width < 4 ? view.getUint16(0, true) : width < 8 ? view.getUint32(0, true) : view.getBigUint64(0, true);
  return [value, width + 1];
}

/** Reads a body. Every method throws a {@link WireError} where the bytes do not fit. */
export class Reader {
  readonly bytes: Uint8Array;
  at = 0;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
  }

  /** A view of the next bytes. */
  take(length: number): Uint8Array {
    if (length > this.bytes.length - this.at) throw new WireError('Body');
    return this.bytes.subarray(this.at, (this.at += length));
  }

  integer(): number | bigint {
    const found = peek(this.bytes, this.at);
    if (!found) throw new WireError('Body');
    this.at += found[1];
    return found[0];
  }

  /** A number of bytes, or of items, each of which takes a byte or more: what is left bounds both. */
  length(): number {
    const length = Number(this.integer());
    if (length > this.bytes.length - this.at) throw new WireError('Body');
    return length;
  }
}

/** Writes a body into a buffer that grows. */
export class Writer {
  #bytes = new Uint8Array(128);
  #length = 0;

  put(bytes: ArrayLike<number>): void {
    const end = this.#length + bytes.length;
    if (end > this.#bytes.length) {
      const larger = new Uint8Array(2 * end);
      larger.set(this.#bytes);
      this.#bytes = larger;
    }
    this.#bytes.set(bytes, this.#length);
    this.#length = end;
  }

  /** The shortest form of an integer. */
  integer(value: number | bigint): void {
    if (value < 251) {
      this.put([Number(value)]);
      return;
    }
    const power = value < 0x1_0000 ? 1 : value < 0x1_0000_0000 ? 2 : 3;
    const bytes = new Uint8Array(9);
    bytes[0] = 250 + power;
    new DataView(bytes.buffer).setBigUint64(1, BigInt(value), true);
    this.put(bytes.subarray(0, 1 + (1 << power)));
  }

  /** What was written, as a view. */
  done(): Uint8Array {
    return this.#bytes.subarray(0, this.#length);
  }
}

const utf8 = new TextEncoder();
// A byte order mark is a character like any other.
const strict = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

const unsigned = (most: number): Codec<number> => ({
  read(from) {
    const value = Number(from.integer());
    if (value > most) throw new WireError('Body');
    return value;
  },
  write(to, value) {
    to.integer(value);
  },
});

const tag = (from: Reader): boolean => {
  const value = from.take(1)[0]!;
  if (value > 1) throw new WireError('Body');
  return value > 0;
};

export const u8: Codec<number> = {
  read: from => from.take(1)[0]!,
  write: (to, value) => to.put([value]),
};
export const u16: Codec<number> = unsigned(0xffff);
export const u32: Codec<number> = unsigned(0xffff_ffff);
export const u64: Codec<bigint> = {
  read: from => BigInt(from.integer()),
  write: (to, value) => to.integer(value),
};
export const bool: Codec<boolean> = {
  read: tag,
  write: (to, value) => to.put([Number(value)]),
};
/** The bytes that are read are a copy: they keep no buffer of a stream. */
export const bytes: Codec<Uint8Array> = {
  read: from => from.take(from.length()).slice(),
  write(to, value) {
    to.integer(value.length);
    to.put(value);
  },
};
export const string: Codec<string> = {
  read(from) {
    try {
      return strict.decode(from.take(from.length()));
    } catch {
      throw new WireError('Body');
    }
  },
  write: (to, value) => bytes.write(to, utf8.encode(value)),
};

export const list = <T>(item: Codec<T>): Codec<T[]> => ({
  read: from => Array.from({ length: from.length() }, () => item.read(from)),
  write(to, values) {
    to.integer(values.length);
    for (const value of values) item.write(to, value);
  },
});

export const option = <T>(some: Codec<T>): Codec<T | undefined> => ({
  read: from => (tag(from) ? some.read(from) : undefined),
  write(to, value) {
    to.put([Number(value !== undefined)]);
    if (value !== undefined) some.write(to, value);
  },
});

type Fields = Record<string, Codec<unknown>>;
type Struct<F> = { [K in keyof F]: Value<F[K]> };

export const struct = <F extends Fields>(fields: F): Codec<Struct<F>> => {
  const entries = Object.entries(fields);
  return {
    read(from) {
      const value: Record<string, unknown> = {};
      for (const [name, field] of entries) value[name] = field.read(from);
      return value as Struct<F>;
    },
    write(to, value) {
      for (const [name, field] of entries) field.write(to, value[name]);
    },
  };
};

type Variants<V extends Record<string, Fields>> = { [K in keyof V]: { kind: K } & Struct<V[K]> }[keyof V];

/** An enum: `kind` names the variant. Their order is that of their numbers. */
export const variants = <V extends Record<string, Fields>>(all: V): Codec<Variants<V>> => {
  const kinds = Object.keys(all);
  const structs = kinds.map(kind => struct(all[kind]!));
  return {
    read(from) {
      const number = Number(from.integer());
      const kind = kinds[number];
      if (kind === undefined) throw new WireError('Body');
      return { kind, ...structs[number]!.read(from) } as Variants<V>;
    },
    write(to, value) {
      const number = kinds.indexOf(value.kind as string);
      to.integer(number);
      structs[number]!.write(to, value as never);
    },
  };
};
