// Publications that come as datagrams (PROTOCOL §5.6): to whom they go, and how they meet what comes on the stream.

import { type Frames, Signal } from './frames.ts';
import { type Frame, type FrameOf, PUBLICATION } from './wire/frames.ts';

type Publication = FrameOf<typeof PUBLICATION>;

/** Publications that wait for their reader; of more the oldest go. Each is as large as a packet. */
const INBOX = 64;
/** Publications of subscriptions whose streams have not arrived; of more the oldest go. */
const EARLY = 64;

/** Where the datagrams of one connection go. */
export class Inboxes {
  readonly #open = new Map<bigint, Merge>();
  #early: [bigint, Publication][] = [];

  /** The stream of a subscription has arrived: what is read is both together. */
  open(subscription: bigint, stream: Frames): Frames {
    const merge = new Merge(stream, () => this.#open.delete(subscription));
    this.#open.set(subscription, merge);
    this.#early = this.#early.filter(([id, publication]) => {
      if (id === subscription) merge.put(publication);
      return id !== subscription;
    });
    return merge;
  }

  /** A datagram came. Of a subscription that is over nothing is kept for long: what is early is little. */
  put(subscription: bigint, publication: Publication): void {
    const merge = this.#open.get(subscription);
    if (merge) merge.put(publication);
    else if (this.#early.push([subscription, publication]) > EARLY) this.#early.shift();
  }
}

/** A stream and its datagrams, by their offsets. */
class Merge implements Frames {
  readonly #stream: Frames;
  readonly #closed: () => void;
  /** By offset, ascending. */
  readonly #waiting: Publication[] = [];
  /** Taken from the stream and not given yet. */
  #held: Frame | undefined;
  readonly #changed = new Signal();
  /** The stream is asked for more. */
  #asking = false;

  constructor(stream: Frames, closed: () => void) {
    this.#stream = stream;
    this.#closed = closed;
  }

  get over(): boolean {
    return this.#stream.over && !this.#held && !this.#waiting.length;
  }

  get overflowed(): boolean {
    return this.#stream.overflowed === true;
  }

  /** Before the end of the stream comes whatever came as a datagram. */
  take(): Frame | undefined {
    const frame = (this.#held ??= this.#stream.take());
    const first = this.#waiting[0];
    if (first && (frame?.type !== PUBLICATION || first.offset <= frame.offset)) return this.#waiting.shift();
    this.#held = undefined;
    return frame;
  }

  more(): Promise<void> {
    // Asked once: a stream that is silent for long does not gather those who wait for it.
    if (!this.#asking) {
      this.#asking = true;
      void this.#stream.more().then(() => {
        this.#asking = false;
        this.#changed.wake();
      });
    }
    return this.#changed.wait();
  }

  stop(): void {
    this.#waiting.length = 0;
    this.#held = undefined;
    this.#closed();
    this.#stream.stop();
  }

  put(publication: Publication): void {
    const waiting = this.#waiting;
    let at = waiting.length;
    while (at && waiting[at - 1]!.offset > publication.offset) at--;
    if (waiting[at - 1]?.offset === publication.offset) return;
    waiting.splice(at, 0, publication);
    if (waiting.length > INBOX) waiting.shift();
    this.#changed.wake();
  }
}
