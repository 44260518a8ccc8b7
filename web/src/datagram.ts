// Publications that come as datagrams (PROTOCOL §5.6): to whom they go, and how they meet what comes on the stream.

import { type Frames, newSignal } from './frames.ts';
import { EARLY, INBOX } from './limits.ts';
import { type Frame, type FrameOf, PUBLICATION } from './wire/frames.ts';

type Publication = FrameOf<typeof PUBLICATION>;

/** Datagrams of subscriptions whose streams have not arrived. */
export type Early = [subscription: bigint, publication: Publication][];

/** Where the datagrams of one connection go. */
export interface Inboxes {
  /** The stream of a subscription has arrived: what is read is both together. */
  open(subscription: bigint, stream: Frames): Frames;
  /** A datagram came. Of a subscription that is over nothing is kept for long: what is early is little. */
  put(subscription: bigint, publication: Publication): void;
}

/** `early` has those that came before, and is kept: what is early is put there. */
export const newInboxes = (early: Early): Inboxes => {
  const open = new Map<bigint, Merge>();
  const put: Inboxes['put'] = (subscription, publication) => {
    const merge = open.get(subscription);
    if (merge) merge.put(publication);
    else if (early.push([subscription, publication]) > EARLY) early.shift();
  };
  return {
    put,
    open(subscription, stream) {
      const merge = newMerge(stream, () => open.delete(subscription));
      open.set(subscription, merge);
      for (const [id, publication] of early.splice(0)) put(id, publication);
      return merge;
    },
  };
};

/** A stream and its datagrams, by their offsets. */
interface Merge extends Frames {
  put(publication: Publication): void;
}

const newMerge = (stream: Frames, closed: () => void): Merge => {
  /** By offset, ascending. */
  const waiting: Publication[] = [];
  /** Taken from the stream and not given yet. */
  let held: Frame | undefined;
  /** How the stream was asked for more last. */
  let asked: Promise<void> | undefined;
  const [changed, wake] = newSignal();
  return {
    get over() {
      return stream.over && !held && !waiting.length;
    },
    get overflowed() {
      return stream.overflowed;
    },
    // Before the end of the stream comes whatever came as a datagram.
    take() {
      const frame = (held ??= stream.take());
      const first = waiting[0];
      if (first && (frame?.type !== PUBLICATION || first.offset <= frame.offset)) return waiting.shift();
      held = undefined;
      return frame;
    },
    more() {
      // Asked once: a stream that is silent for long does not gather those who wait for it.
      const more = stream.more();
      if (more !== asked) void more.then(wake);
      asked = more;
      return changed();
    },
    stop() {
      waiting.length = 0;
      held = undefined;
      closed();
      stream.stop();
    },
    put(publication) {
      let at = waiting.length;
      while (at && waiting[at - 1]!.offset > publication.offset) at--;
      if (waiting[at - 1]?.offset === publication.offset) return;
      waiting.splice(at, 0, publication);
      if (waiting.length > INBOX) waiting.shift();
      wake();
    },
  };
};
