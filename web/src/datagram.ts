// Publications that come as datagrams (PROTOCOL §5.6): to whom they go, and how they meet what comes on the stream.

import { type Frames, newSignal } from './frames.ts';
import { EARLY, INBOX } from './limits.ts';
import { bytes, reader, u64 } from './wire/codec.ts';
import { decode, type Frame, type FrameOf, PUBLICATION } from './wire/frames.ts';

type Publication = FrameOf<typeof PUBLICATION>;
type Found = [subscription: bigint, publication: Publication];

/** Datagrams that came before this was loaded. */
export type Early = Uint8Array[];

/** Where the datagrams of one connection go. */
export interface Inboxes {
  /** The stream of a subscription has arrived: what is read is both together. */
  open(subscription: bigint, stream: Frames): Frames;
  /** A datagram came. Of a subscription that is over nothing is kept for long: what is early is little. */
  put(datagram: Uint8Array): void;
}

/**
 * A datagram (PROTOCOL §5.6): the id of its subscription, and its publication. `undefined` for everything else: nothing that arrives as
 * a datagram ends a connection.
 */
export const decodeDatagram = (datagram: Uint8Array): Found | undefined => {
  try {
    const from = reader(datagram, 0);
    const subscription = u64(from);
    const frame = decode(bytes(from));
    return frame?.type === PUBLICATION && !from.left() ? [subscription, frame] : undefined;
  } catch {
    return undefined;
  }
};

export const newInboxes = (before: Early): Inboxes => {
  const open = new Map<bigint, Merge>();
  /** Those of subscriptions whose streams have not arrived. */
  const early: Found[] = [];
  const put = (found: Found) => {
    const merge = open.get(found[0]);
    if (merge) merge.put(found[1]);
    else if (early.push(found) > EARLY) early.shift();
  };
  const take = (datagram: Uint8Array) => {
    const found = decodeDatagram(datagram);
    if (found) put(found);
  };
  before.forEach(take);
  return {
    put: take,
    open(subscription, stream) {
      const merge = newMerge(stream, () => open.delete(subscription));
      open.set(subscription, merge);
      early.splice(0).forEach(put);
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
