// What a subscription is told, until it looks.

import type { TidingsError } from './codes.ts';
import { type Frames, Signal } from './frames.ts';
import type { FrameOf, HEADER, WirePosition } from './wire/frames.ts';

/** A stream with its header read. */
export interface Incoming {
  header: FrameOf<typeof HEADER>;
  frames: Frames;
  /** Number of its connection: ids of subscriptions begin anew with each. */
  connection: number;
}

/** Where a stream begins: all there is to know of one that nobody asked for. */
export const beginning = ({ header: { epoch, first } }: Incoming): WirePosition => ({
  epoch,
  offset: first > 0n ? first - 1n : 0n,
});

/** A stream, or why the subscription is over. */
export type Feed = Incoming | TidingsError;

/** A reader that sleeps through more connections than this keeps the first stream and the latest ones. */
const MOST = 4;

/** What a subscription was told and has not taken up. Of more than MOST streams the second goes; positions tell what that cost. */
export class Mailbox {
  /** How far its reader came: where the next connection takes it up. */
  reached: WirePosition | undefined;
  readonly changed: Signal = new Signal();
  #feeds: Feed[] = [];

  put(feed: Feed): void {
    if (this.#feeds.length === MOST) discard(this.#feeds.splice(1, 1));
    this.#feeds.push(feed);
    this.changed.wake();
  }

  take(): Feed | undefined {
    return this.#feeds.shift();
  }

  /** All that is left. */
  drain(): Incoming[] {
    return this.#feeds.splice(0).filter(feed => 'header' in feed);
  }
}

/** Nobody will read these. */
export const discard = (feeds: Feed[]): void => {
  for (const feed of feeds) if ('header' in feed) feed.frames.stop();
};
