// Streams that several subscriptions share (PROTOCOL §5.7), taken apart: each subscription reads its part as it would a stream of its
// own. A part that is not read holds up nobody: above PART_BYTES it ends here, and its subscription is made anew from where its reader
// is, once that has read what there is. Above LANE_BYTES the largest part is given up with what is in it: it is read again.

import { type Frames, newSignal, next, type StreamReader } from './frames.ts';
import { FRAME_COST, LANE_BYTES, PART_BYTES, PARTS } from './limits.ts';
import { END, type Frame, type FrameOf, HEADER, LANE, TURN } from './wire/frames.ts';

interface Part extends Frames {
  /** Nobody reads. */
  abandoned: boolean;
  bytes: number;
  /** Whether there was room, and somebody to read it. What follows the end is nobody's. */
  push(frame: Frame, cost: number): boolean;
  end(overflowed?: boolean): void;
  clear(): void;
}

/** `count` hears of every change of what the part holds. */
function newPart(count: (bytes: number) => void): Part {
  const frames: [Frame, cost: number][] = [];
  const changed = newSignal();
  const held = (bytes: number) => {
    part.bytes += bytes;
    count(bytes);
  };
  const part = {
    over: false,
    overflowed: false,
    abandoned: false,
    bytes: 0,
    take() {
      const [frame, cost = 0] = frames.shift() ?? [];
      held(-cost);
      return frame;
    },
    more: async () => {
      if (!part.over) await changed.wait();
    },
    stop() {
      part.abandoned = true;
      part.clear();
      part.end();
    },
    push(frame: Frame, cost: number) {
      if (part.abandoned) return false;
      if (part.over) return true;
      if (part.bytes && part.bytes + cost > PART_BYTES) {
        part.end(true);
        return false;
      }
      held(cost);
      frames.push([frame, cost]);
      changed.wake();
      return true;
    },
    end(overflowed = false) {
      if (!part.over) part.overflowed = overflowed;
      part.over = true;
      changed.wake();
    },
    clear() {
      frames.length = 0;
      held(-part.bytes);
    },
  };
  return part;
}

/**
 * Reads a lane to its end. `begins` hears of every subscription on it, `unwanted` of each that is not read any more and is to be ended.
 */
export async function readLane(
  lane: StreamReader,
  begins: (header: FrameOf<typeof HEADER>, part: Frames) => void,
  unwanted: (subscription: bigint) => void,
): Promise<void> {
  // Those that are over stay until nobody reads them, or room is needed.
  const parts = new Map<bigint, Part>();
  let held = 0;
  let crowded = 64;
  let turn = 0n;
  for (let frame = await next(lane); frame && frame.type !== LANE; frame = await next(lane)) {
    if (frame.type === TURN) {
      turn = frame.subscription;
      continue;
    }
    const part = parts.get(turn);
    if (frame.type === HEADER) {
      if (parts.size >= crowded) {
        for (const [id, { abandoned }] of parts) if (abandoned) parts.delete(id);
        crowded = Math.max(64, 2 * parts.size);
      }
      if (frame.subscription !== turn || part || parts.size >= PARTS) break;
      const begun = newPart(bytes => {
        held += bytes;
      });
      parts.set(turn, begun);
      begins(frame, begun);
    } else if (part) {
      // Of one that was given up the server will hear, or has.
      const taken = part.push(frame, lane.cutter.size + FRAME_COST);
      const ends = frame.type === END;
      if (ends) part.end();
      if (!taken) {
        parts.delete(turn);
        if (!ends) unwanted(turn);
      }
      if (held > LANE_BYTES) {
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
