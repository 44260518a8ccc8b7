// Frames of one stream, read as they are asked for.

import type { WireError } from './wire/codec.ts';
import { Cutter } from './wire/cutter.ts';
import type { Frame } from './wire/frames.ts';

/** What a subscription reads: a stream of its own, or its part of a lane. */
export interface Frames {
  /** Nothing will follow what `take` still gives. */
  readonly over: boolean;
  /** It ended because it was not read: the rest is to be asked for anew. */
  readonly overflowed?: boolean;
  /** The next frame, if it is there. */
  take(): Frame | undefined;
  /** Resolves when there may be more to take, or it is over. Never rejects. May be called again before it resolves. */
  more(): Promise<void>;
  /** Nobody reads on: the server is told. */
  stop(): void;
}

/** Waits for the next frame; `undefined` where nothing follows. */
export async function next(frames: Frames): Promise<Frame | undefined> {
  for (;;) {
    const frame = frames.take();
    if (frame || frames.over) return frame;
    await frames.more();
  }
}

/** Wakes those who wait. */
export class Signal {
  #resolve: (() => void) | undefined;
  #promise: Promise<void> | undefined;

  /** Resolves at the next `wake`. */
  wait(): Promise<void> {
    this.#promise ??= new Promise(resolve => {
      this.#resolve = resolve;
    });
    return this.#promise;
  }

  wake(): void {
    this.#resolve?.();
    this.#resolve = this.#promise = undefined;
  }
}

/** Reads a stream. Holds one chunk of it, and one frame that is not complete. */
export class StreamReader implements Frames {
  /** What broke the protocol, where that ended the stream. */
  fault: WireError | undefined;
  over = false;
  readonly #reader: ReadableStreamDefaultReader<Uint8Array>;
  readonly #cutter: Cutter;
  readonly #heard: () => void;
  #reading: Promise<void> | undefined;

  /** `heard` is called for every chunk. */
  constructor(stream: ReadableStream<Uint8Array>, limit: number, heard: () => void) {
    this.#heard = heard;
    this.#reader = stream.getReader();
    this.#cutter = new Cutter(limit);
  }

  /** Bytes of the frame that was taken last. */
  get size(): number {
    return this.#cutter.size;
  }

  set limit(bytes: number) {
    this.#cutter.limit = bytes;
  }

  take(): Frame | undefined {
    try {
      return this.fault ? undefined : this.#cutter.next();
    } catch (error) {
      this.fault = error as WireError;
      this.stop();
      return undefined;
    }
  }

  more(): Promise<void> {
    this.#reading ??= this.#read();
    return this.#reading;
  }

  stop(): void {
    this.over = true;
    this.#reader.cancel().catch(() => {});
  }

  async #read(): Promise<void> {
    try {
      const { value, done } = await this.#reader.read();
      if (done) this.over = true;
      else {
        this.#heard();
        this.#cutter.push(value);
      }
    } catch {
      this.over = true;
    }
    this.#reading = undefined;
  }
}
