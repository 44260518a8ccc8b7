// Streams that several subscriptions share (PROTOCOL §5.7), taken apart: each subscription reads its part as it would a stream of its
// own. A part that is not read holds up nobody: above PART_BYTES it ends here, and its subscription is made anew from where its reader
// is, once that has read what there is. Above LANE_BYTES the largest part is given up with what is in it: it is read again.

import { type Frames, newSignal, next, type StreamReader } from './frames.ts';
import { FRAME_COST, LANE_BYTES, PART_BYTES, PARTS } from './limits.ts';
import { END, type Frame, type FrameOf, HEADER, LANE, TURN } from './wire/frames.ts';

interface Part extends Frames {
  overflowed: boolean;
  bytes: number;
  push(frame: Frame, cost: number): void;
  end(): void;
  clear(): void;
}

/**
 * Reads a lane to its end. `begins` hears of every subscription on it, `unwanted` of each that is not read any more and is to be ended,
 * if it is not told so already.
 */
export const readLane = async (
  lane: StreamReader,
  begins: (header: FrameOf<typeof HEADER>, part: Frames) => void,
  unwanted: (subscription: bigint) => void,
): Promise<void> => {
  // Those that are over stay until they are read.
  const parts = new Map<bigint, Part>();
  let held = 0;
  let turn = 0n;

  const newPart = (id: bigint) => {
    const frames: [Frame, cost: number][] = [];
    const [changed, wake] = newSignal();
    const count = (bytes: number) => {
      part.bytes += bytes;
      held += bytes;
    };
    const part = {
      over: false,
      overflowed: false,
      bytes: 0,
      take() {
        const [frame, cost = 0] = frames.shift() ?? [];
        count(-cost);
        return frame;
      },
      more: changed,
      stop() {
        parts.delete(id);
        if (!part.over) unwanted(id);
        part.end();
        part.clear();
      },
      push(frame: Frame, cost: number) {
        count(cost);
        frames.push([frame, cost]);
        wake();
      },
      end() {
        part.over = true;
        wake();
      },
      clear() {
        frames.length = 0;
        count(-part.bytes);
      },
    };
    parts.set(id, part);
    return part;
  };
  /** Its reader has what is there, and asks for the rest anew. */
  const giveUp = (id: bigint, part: Part) => {
    parts.delete(id);
    part.overflowed = true;
    part.end();
    unwanted(id);
  };

  for (let frame = await next(lane); frame && frame.type !== LANE; frame = await next(lane)) {
    const part = parts.get(turn);
    if (frame.type === TURN) {
      turn = frame.subscription;
    } else if (frame.type === HEADER) {
      if (frame.subscription !== turn || part || parts.size >= PARTS) break;
      begins(frame, newPart(turn));
    } else if (part && !part.over) {
      // Of one that was given up the server has heard. What follows the end is nobody's.
      const cost = lane.cutter.size + FRAME_COST;
      if (part.bytes && part.bytes + cost > PART_BYTES) giveUp(turn, part);
      else part.push(frame, cost);
      if (frame.type === END) part.end();
      if (held > LANE_BYTES) {
        const [id, largest] = [...parts].reduce((most, other) => (other[1].bytes > most[1].bytes ? other : most));
        giveUp(id, largest);
        largest.clear();
      }
    }
  }
  lane.stop();
  for (const part of parts.values()) part.end();
};
