// User code's hold on a name, and what it is told until it looks.

import type { TidingsError } from './codes.ts';
import { type Frames, newSignal } from './frames.ts';
import { FEEDS } from './limits.ts';
import { OLDEST } from './position.ts';
import type { Server } from './registry.ts';
import type { FrameOf, HEADER, WirePosition, WireStart } from './wire/frames.ts';

/** A stream with its header read. */
export interface Incoming extends Header {
  frames: Frames;
  /** Its connection: ids of subscriptions begin anew with each. */
  server: Server;
}
type Header = FrameOf<typeof HEADER>;

/** Where a stream begins: all there is to know of one that nobody asked for. */
export const beginning = ({ epoch, first }: Incoming): WirePosition => ({
  epoch,
  offset: first && first - 1n,
});

/** Nobody will read these. */
export const discard = (streams: Incoming[]): void => {
  for (const { frames } of streams) frames.stop();
};

/** `Registry.release` gives it up. */
export interface Claim {
  readonly source: number;
  readonly name: string;
  /** The last position that its reader was given, or from where it misses something. */
  at: WirePosition | undefined;
  /** Where it began, once it stands. Rejects where it is refused. */
  readonly ready: Promise<WirePosition>;
  /** Whether it ever stood. */
  stood: boolean;
  /** Where the next connection takes it up. */
  start(): WireStart;
  /** The subscription stands; there may be others on later connections. */
  stand(position: WirePosition): void;
  /** A stream to be read after those before it. Of more than FEEDS the second goes; positions tell what that cost. */
  put(stream: Incoming): void;
  /** Nothing follows the streams that are there. */
  end(error: TidingsError): void;
  /** Why it is over, once it is. */
  over: TidingsError | undefined;
  /** The next stream. */
  take(): Incoming | undefined;
  /** Resolves when there may be more to take, or it is over. */
  more(): Promise<void>;
  /** All streams that are left. */
  drain(): Incoming[];
}

export const newClaim = (source: number, name: string, start: WireStart): Claim => {
  const streams: Incoming[] = [];
  const [changed, wake] = newSignal();
  let stands!: (position: WirePosition) => void;
  let refuse!: (error: TidingsError) => void;
  const claim: Claim = {
    source,
    name,
    // Before the oldest there is nothing to miss.
    at: 'position' in start && start.position !== OLDEST ? start.position : undefined,
    ready: new Promise((resolve, reject) => {
      stands = resolve;
      refuse = reject;
    }),
    stood: false,
    over: undefined,
    start: () => (claim.stood ? { kind: 'afterOrOldest', position: claim.at! } : start),
    stand(position) {
      claim.stood = true;
      claim.at ??= position;
      stands(position);
    },
    put(stream) {
      if (streams.length === FEEDS) discard(streams.splice(1, 1));
      streams.push(stream);
      wake();
    },
    end(error) {
      claim.over ??= error;
      refuse(error);
      wake();
    },
    take: () => streams.shift(),
    more: changed,
    drain: () => streams.splice(0),
  };
  return claim;
};
