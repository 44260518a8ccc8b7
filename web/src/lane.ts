// Streams that several subscriptions share (PROTOCOL §5.7), taken apart: each subscription reads its part as it would a stream of its
// own. A part that is not read holds up nobody: above PART_BYTES it ends here, and its subscription is made anew from where its reader
// is, once that has read what there is. Above LANE_BYTES the largest part is given up with what is in it: it is read again.

import { type Frames, next, Signal, type StreamReader } from './frames.ts';
import { END, type Frame, type FrameOf, HEADER, LANE, TURN } from './wire/frames.ts';

/** Most bytes of a part that wait for their reader, but for a single frame that is larger. */
const PART_BYTES = 256 * 1024;
/** The same for all parts of a lane together. */
const LANE_BYTES = 16 * 1024 * 1024;
/** Most parts of a lane that are read, or wait to be. */
const PARTS = 65_536;
/** What a frame takes beside its bytes, about. */
const FRAME_COST = 64;

/** Bytes that the parts of a lane hold. */
interface Held {
  bytes: number;
}

class Part implements Frames {
  over = false;
  overflowed = false;
  /** Nobody reads. */
  abandoned = false;
  bytes = 0;
  readonly #held: Held;
  #frames: [Frame, cost: number][] = [];
  readonly #changed = new Signal();

  constructor(held: Held) {
    this.#held = held;
  }

  take(): Frame | undefined {
    const first = this.#frames.shift();
    if (first) this.#count(-first[1]);
    return first?.[0];
  }

  more(): Promise<void> {
    return this.over ? Promise.resolve() : this.#changed.wait();
  }

  stop(): void {
    this.abandoned = true;
    this.clear();
    this.end();
  }

  /** Whether there was room, and somebody to read it. What follows the end is nobody's. */
  push(frame: Frame, cost: number): boolean {
    if (this.abandoned) return false;
    if (this.over) return true;
    if (this.bytes + cost > PART_BYTES && this.bytes) {
      this.end(true);
      return false;
    }
    this.#count(cost);
    this.#frames.push([frame, cost]);
    this.#changed.wake();
    return true;
  }

  end(overflowed = false): void {
    if (!this.over) this.overflowed = overflowed;
    this.over = true;
    this.#changed.wake();
  }

  clear(): void {
    this.#frames = [];
    this.#count(-this.bytes);
  }

  #count(bytes: number): void {
    this.bytes += bytes;
    this.#held.bytes += bytes;
  }
}

/**
 * Reads a lane to its end. `begins` hears of every subscription on it, `unwanted` of each that is not read any more and is to be ended.
 */
export async function readLane(
  lane: StreamReader,
  begins: (header: FrameOf<typeof HEADER>, part: Frames) => void,
  unwanted: (subscription: bigint) => void,
): Promise<void> {
  const held: Held = { bytes: 0 };
  // Those that are over stay until nobody reads them, or room is needed.
  const parts = new Map<bigint, Part>();
  let crowded = 64;
  let turn = 0n;
  for (let frame = await next(lane); frame; frame = await next(lane)) {
    if (frame.type === TURN) {
      turn = frame.subscription;
    } else if (frame.type === HEADER) {
      if (parts.size >= crowded) {
        for (const [id, part] of parts) if (part.abandoned) parts.delete(id);
        crowded = Math.max(64, 2 * parts.size);
      }
      if (frame.subscription !== turn || parts.has(turn) || parts.size >= PARTS) break;
      const part = new Part(held);
      parts.set(turn, part);
      begins(frame, part);
    } else if (frame.type === LANE) {
      break;
    } else {
      // Of one that was given up the server will hear, or has.
      const part = parts.get(turn);
      if (!part) continue;
      const taken = part.push(frame, lane.size + FRAME_COST);
      const ends = frame.type === END;
      if (ends) part.end();
      if (!taken) {
        parts.delete(turn);
        if (!ends) unwanted(turn);
      }
      if (held.bytes > LANE_BYTES) {
        const [id, largest] = [...parts].reduce((most, other) => (other[1].bytes > most[1].bytes ? other : most));
        parts.delete(id);
        largest.end(true);
        largest.clear();
        unwanted(id);
      }
    }
  }
  lane.stop();
  for (const part of parts.values()) part.end();
}
