// Cuts a stream of bytes into frames (PROTOCOL §3.5).

import { peek, wireError } from './codec.ts';
import { decode, type Frame } from './frames.ts';

/** Its buffer never holds more than one frame of the limit and what one `push` added. */
export interface Cutter {
  /** Most bytes of type and body of a frame. May be changed between two frames. */
  limit: number;
  /** Bytes of the frame that `next` gave last. */
  readonly size: number;
  /** Whether the stream may end here: no part of a frame is left over. */
  readonly empty: boolean;
  /** Adds what the stream gave, which may be kept. */
  push(chunk: Uint8Array): void;
  /**
   * The next whole frame of a known type, or `undefined` where more bytes are needed. Frames of unknown types are skipped. Throws a
   * {@link wireError}; the stream cannot be read on after one.
   */
  next(): Frame | undefined;
}

export const newCutter = (limit: number): Cutter => {
  let buffer = new Uint8Array(0);
  let start = 0;
  let end = 0;
  const cutter = {
    limit,
    size: 0,
    get empty() {
      return start === end;
    },
    push(chunk: Uint8Array<ArrayBuffer>) {
      if (end + chunk.length > buffer.length) {
        const held = buffer.subarray(start, end);
        buffer = held.length ? new Uint8Array(2 * (held.length + chunk.length)) : chunk;
        buffer.set(held);
        start = 0;
        end = held.length;
      }
      buffer.set(chunk, end);
      end += chunk.length;
    },
    next() {
      for (;;) {
        const held = buffer.subarray(start, end);
        const length = peek(held, 0);
        if (!length) return undefined;
        const [size, width] = length;
        if (!size) throw wireError('Empty');
        if (size > cutter.limit) throw wireError('TooLarge');
        cutter.size = Number(size);
        const whole = width + cutter.size;
        if (held.length < whole) return undefined;
        start += whole;
        // An idle stream holds no buffer.
        if (cutter.empty) buffer = new Uint8Array((start = end = 0));
        const frame = decode(held.subarray(width, whole));
        if (frame) return frame;
      }
    },
  };
  return cutter as Cutter;
};
