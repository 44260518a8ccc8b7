// What a subscription is told, until it looks.

import type { TidingsError } from './codes.ts';
import { type Frames, newSignal } from './frames.ts';
import { FEEDS } from './limits.ts';
import type { Server } from './registry.ts';
import type { FrameOf, HEADER, WirePosition } from './wire/frames.ts';

/** A stream with its header read. */
export interface Incoming {
  header: FrameOf<typeof HEADER>;
  frames: Frames;
  /** Its connection: ids of subscriptions begin anew with each. */
  server: Server;
}

/** Where a stream begins: all there is to know of one that nobody asked for. */
export const beginning = ({ header: { epoch, first } }: Incoming): WirePosition => ({
  epoch,
  offset: first > 0n ? first - 1n : 0n,
});

/** A stream, or why the subscription is over. */
export type Feed = Incoming | TidingsError;

/** What a subscription was told and has not taken up. Of more than FEEDS streams the second goes; positions tell what that cost. */
export interface Mailbox {
  put(feed: Feed): void;
  take(): Feed | undefined;
  /** Resolves when there may be more to take. */
  more(): Promise<void>;
  /** All streams that are left. */
  drain(): Incoming[];
}

export function newMailbox(): Mailbox {
  const feeds: Feed[] = [];
  const changed = newSignal();
  return {
    put(feed) {
      if (feeds.length === FEEDS) discard(feeds.splice(1, 1));
      feeds.push(feed);
      changed.wake();
    },
    take: () => feeds.shift(),
    more: changed.wait,
    drain: () => feeds.splice(0).filter(feed => 'header' in feed),
  };
}

/** Nobody will read these. */
export const discard = (feeds: Feed[]): void => {
  for (const feed of feeds) if ('header' in feed) feed.frames.stop();
};
