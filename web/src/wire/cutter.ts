// Cuts a stream of bytes into frames (PROTOCOL §3.5).

import { peek, WireError } from './codec.ts';
import { decode, type Frame } from './frames.ts';

/** Its buffer never holds more than one frame of the limit and what one `push` added. */
export class Cutter {
  /** Most bytes of type and body of a frame. May be changed between two frames. */
  limit: number;
  /** Bytes of the frame that `next` gave last. */
  size = 0;
  #buffer = new Uint8Array(0);
  #start = 0;
  #end = 0;

  constructor(limit: number) {
    this.limit = limit;
  }

  /** Adds what the stream gave, which may be kept. */
  push(chunk: Uint8Array): void {
    const held = this.#end - this.#start;
    if (!held) {
      this.#buffer = chunk as Uint8Array<ArrayBuffer>;
      this.#start = 0;
      this.#end = chunk.length;
      return;
    }
    if (this.#end + chunk.length > this.#buffer.length) {
      const larger = new Uint8Array(2 * (held + chunk.length));
      larger.set(this.#buffer.subarray(this.#start, this.#end));
      this.#buffer = larger;
      this.#start = 0;
      this.#end = held;
    }
    this.#buffer.set(chunk, this.#end);
    this.#end += chunk.length;
  }

  /** Whether the stream may end here: no part of a frame is left over. */
  get empty(): boolean {
    return this.#start === this.#end;
  }

  /**
   * The next whole frame of a known type, or `undefined` where more bytes are needed. Frames of unknown types are skipped. Throws a
   * {@link WireError}; the stream cannot be read on after one.
   */
  next(): Frame | undefined {
    for (;;) {
      const held = this.#buffer.subarray(this.#start, this.#end);
      const length = peek(held, 0);
      if (!length) return undefined;
      const size = Number(length[0]);
      if (!size) throw new WireError('Empty');
      if (size > this.limit) throw new WireError('TooLarge');
      const end = length[1] + size;
      if (held.length < end) return undefined;
      this.#start += end;
      this.size = size;
      const frame = decode(held.subarray(length[1], end));
      // An idle stream holds no buffer.
      if (this.empty) this.#buffer = new Uint8Array((this.#start = this.#end = 0));
      if (frame) return frame;
    }
  }
}
