// Frames of one stream, read as they are asked for.

import type { TidingsError } from './codes.ts';
import { type Cutter, newCutter } from './wire/cutter.ts';
import type { Frame } from './wire/frames.ts';

/** What a subscription reads: a stream of its own, or its part of a lane. */
export interface Frames {
  /** Nothing will follow what `take` still gives. */
  readonly over: boolean;
  /** It ended because it was not read: the rest is to be asked for anew. */
  readonly overflowed?: boolean | undefined;
  /** The next frame, if it is there. */
  take(): Frame | undefined;
  /** Resolves when there may be more to take, or it is over, which it is not yet. Never rejects; the same promise until then. */
  more(): Promise<void>;
  /** Nobody reads on: the server is told. */
  stop(): void;
}

/** Waits for the next frame; `undefined` where nothing follows. */
export const next = async (frames: Frames): Promise<Frame | undefined> => {
  for (;;) {
    const frame = frames.take();
    if (frame || frames.over) return frame;
    await frames.more();
  }
};

/** How to wait for the next time that somebody wakes, and how to wake. */
export type Signal = [wait: () => Promise<void>, wake: () => void];

export const newSignal = (): Signal => {
  let promise: Promise<void> | undefined;
  let resolve = () => {};
  const wake = () => {
    promise = undefined;
    resolve();
  };
  return [() => (promise ??= new Promise(woken => (resolve = woken))), wake];
};

/** A stream as {@link Frames}: one chunk of it is held, and one frame that is not complete. */
export interface StreamReader extends Frames {
  over: boolean;
  /** What broke the protocol, where that ended the stream. */
  fault: TidingsError | undefined;
  readonly cutter: Cutter;
}

const ENDED = { value: undefined };

/** Reads a stream. `heard` is called for every chunk. */
export const readStream = (stream: ReadableStream<Uint8Array>, limit: number, heard: () => void): StreamReader => {
  const reader = stream.getReader();
  const cutter = newCutter(limit);
  let reading: Promise<void> | undefined;
  const read = async () => {
    const { value } = await reader.read().catch(() => ENDED);
    if (value) {
      heard();
      cutter.push(value);
    } else {
      frames.over = true;
    }
    reading = undefined;
  };
  const frames: StreamReader = {
    over: false,
    fault: undefined,
    cutter,
    take() {
      try {
        return frames.fault ? undefined : cutter.next();
      } catch (error) {
        frames.fault = error as TidingsError;
        frames.stop();
        return undefined;
      }
    },
    more: () => (reading ??= read()),
    stop() {
      frames.over = true;
      reader.cancel().catch(() => {});
    },
  };
  return frames;
};
