// Integers of QUIC (RFC 9000 §16), and what is counted by them.

/** These integers, one after the other. Numbers are below 2^53, and bigints take eight bytes. */
export function integers(...values: (number | bigint)[]): Uint8Array<ArrayBuffer> {
  const bytes: number[] = [];
  for (const value of values) {
    const big = BigInt(value);
    const exponent = big < 0x40n ? 0 : big < 0x4000n ? 1 : big < 0x4000_0000n ? 2 : 3;
    for (let at = 2 ** exponent - 1, first = exponent << 6; at >= 0; at--, first = 0) {
      bytes.push(Number((big >> BigInt(8 * at)) & 0xffn) | first);
    }
  }
  return new Uint8Array(bytes);
}

/** Reads integers; throws a `RangeError` where the bytes end early. */
export class Integers {
  readonly #bytes: Uint8Array;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  /** Whether anything is left. */
  get left(): boolean {
    return this.#at < this.#bytes.length;
  }

  /** The next integer; above 2^53 the nearest number. */
  next(): number {
    return Number(this.big());
  }

  /** The next integer. */
  big(): bigint {
    const first = this.#take(1)[0]!;
    let value = BigInt(first & 0x3f);
    for (const byte of this.#take(2 ** (first >> 6) - 1)) value = (value << 8n) | BigInt(byte);
    return value;
  }

  skip(count: number): void {
    for (; count > 0; count--) this.next();
  }

  /** As many bytes as the next integer says. */
  counted(): Uint8Array {
    return this.#take(this.next());
  }

  /** The same as text. */
  text(): string {
    return new TextDecoder().decode(this.counted());
  }

  /** What is left. */
  rest(): Uint8Array {
    return this.#take(this.#bytes.length - this.#at);
  }

  #take(count: number): Uint8Array {
    if (this.#at + count > this.#bytes.length) throw new RangeError('the bytes end early');
    this.#at += count;
    return this.#bytes.subarray(this.#at - count, this.#at);
  }
}
