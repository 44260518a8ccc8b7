// Who reads what: the meeting place of streams that the server opens and subscriptions that user code holds.

import { backoff } from './backoff.ts';
import { beginning, type Claim, discard, type Incoming } from './claim.ts';
import {
  ALREADY_SUBSCRIBED,
  ENDED,
  GOING_AWAY,
  LAGGED_OUT,
  LOST,
  NO_STREAM_LEFT,
  TidingsError,
  TOO_MANY_SUBSCRIPTIONS,
} from './codes.ts';
import { CUT, ORPHANS } from './limits.ts';
import { toText } from './position.ts';
import { CHANNEL, ENDPOINT, type FrameOf, type SUBSCRIBED, type WirePosition, type WireStart } from './wire/frames.ts';

/** A claim, or the header of a stream. */
type Named = Pick<Claim, 'source' | 'name'>;

/** What is known of one name. */
interface Slot {
  /** The reader; none for what came unasked and was not taken up yet. */
  claim?: Claim | undefined;
  /** Id and beginning on this connection. */
  current?: { id: bigint; position: WirePosition } | undefined;
  /** Asked for on this connection. */
  asked?: boolean;
  /** Arrived and not handed over. Bounded by the streams that the server may open, and the parts that a lane may have. */
  waiting: Incoming[];
}

/** What the registry asks of a connection. Once that is over, nothing comes of it. */
export interface Server {
  unsubscribe(id: bigint): void;
  subscribe(
    name: string,
    start: WireStart,
    answered: (answer: FrameOf<typeof SUBSCRIBED> | TidingsError) => void,
  ): void;
  later(ms: number, then: () => void): void;
}

/** What a client reads, over all its connections. */
export interface Registry {
  /** Takes a name for a reader. */
  claim(claim: Claim): void;
  /** Gives a claim up: the server is told. */
  release(claim: Claim): void;
  /** A new connection: what the old one had is gone; these are subscribed already. */
  connected(server: Server, automatic: { channel: string; subscription: bigint; position: WirePosition }[]): void;
  /** A stream arrived. */
  arrived(incoming: Incoming): void;
  /** The stream of a claim ended without a word. Of a connection that is over nothing follows from that. */
  cutOff(claim: Claim, incoming: Incoming): void;
  /** Nothing will come any more. */
  end(error: TidingsError): void;
}

export const newRegistry = (): Registry => {
  let server: Server | undefined;
  let over: TidingsError | undefined;
  const slots = new Map<string, Slot>();
  /** Channels whose `Subscribe` is not answered yet: none is asked for twice at a time. */
  const asking = new Set<string>();
  /** Given up, maybe before their streams arrived, which are to be dropped then. */
  const orphans = new Set<bigint>();

  const slotOf = (named: Named): Slot => {
    const slot = slots.get(key(named)) ?? { waiting: [] };
    slots.set(key(named), slot);
    return slot;
  };

  /** Ends a subscription. */
  const end = (id: bigint) => {
    server?.unsubscribe(id);
    orphans.add(id);
    // Most of their streams were there already: the oldest are those that will not come.
    if (orphans.size > ORPHANS) orphans.delete(orphans.keys().next().value!);
  };

  /** Ends what a name has on this connection. */
  const drop = (slot: Slot) => {
    if (slot.current) end(slot.current.id);
    forget(slot);
  };

  /** Asks for what is claimed and was not asked for. */
  const sync = () => {
    for (const [name, slot] of slots) {
      const { claim } = slot;
      if (claim?.source !== CHANNEL || slot.current || slot.asked || asking.has(name)) continue;
      asking.add(name);
      slot.asked = true;
      server?.subscribe(claim.name, claim.start(), answer => answered(name, answer));
    }
  };

  /** An answer is for who wants the channel now. */
  const answered = (name: string, answer: FrameOf<typeof SUBSCRIBED> | TidingsError) => {
    const slot = slots.get(name);
    const stream = slot?.waiting.at(-1);
    const refused = answer instanceof TidingsError;
    // The next connection asks again.
    if (refused && [LOST, GOING_AWAY].includes(answer.code)) return;
    asking.delete(name);
    if (!slot?.asked) {
      // Given up meanwhile. Whoever claimed the channel anew may want another beginning.
      const waiting = slot?.waiting.splice(0) ?? [];
      if (!slot?.claim) slots.delete(name);
      if (!refused) end(answer.subscription);
      waiting.forEach(arrived);
    } else if (!refused) {
      begin(slot, answer.subscription, answer.position);
    } else if (stream) {
      // User code on the server subscribed this client while the request was on its way.
      begin(slot, stream.subscription, beginning(stream));
    } else if (passes(answer, slot.claim!)) {
      server!.later(CUT + backoff(4), () => {
        const slot = slots.get(name);
        if (slot) slot.asked = false;
        sync();
      });
    } else {
      slots.delete(name);
      slot.claim!.end(answer);
    }
    sync();
  };

  const arrived = (incoming: Incoming) => {
    const { subscription } = incoming;
    if (orphans.delete(subscription)) return incoming.frames.stop();
    const slot = slotOf(incoming);
    slot.waiting.push(incoming);
    if (incoming.source === ENDPOINT || !(slot.current || asking.has(key(incoming))))
      begin(slot, subscription, beginning(incoming));
    else settle(slot);
  };

  return {
    arrived,

    claim(claim) {
      if (over) return claim.end(over);
      const slot = slotOf(claim);
      slot.claim = claim;
      // What the server gave unasked goes, in favour of one that begins where this reader wants to.
      if (slot.current && wantsAnother(claim, slot.current.position)) drop(slot);
      settle(slot);
      sync();
    },

    release(claim) {
      const name = key(claim);
      const slot = slots.get(name);
      const rest = claim.drain();
      if (slot?.claim === claim) {
        if (claim.source === ENDPOINT && slot.current && rest.length) {
          // User code on the server has opened its stream again before the end of the one before was read.
          slot.claim = undefined;
          slot.waiting = rest;
          return;
        }
        slots.delete(name);
        drop(slot);
      }
      discard(rest);
    },

    connected(connection, automatic) {
      server = connection;
      asking.clear();
      orphans.clear();
      for (const [name, slot] of slots) {
        forget(slot);
        if (!slot.claim) slots.delete(name);
      }
      for (const { channel, subscription: id, position } of automatic) {
        const slot = slotOf({ source: CHANNEL, name: channel });
        // It goes, in favour of one that begins where this reader is.
        if (slot.claim && wantsAnother(slot.claim, position)) end(id);
        else begin(slot, id, position);
      }
      sync();
    },

    cutOff(claim, { server: from, subscription, frames }) {
      // Whose part of a shared stream ran over has read what there was before: the rest is to be had at once. The end of a connection
      // cuts its streams off too, and is seen a moment later.
      from.later(frames.overflowed ? 0 : CUT, () => {
        const slot = slots.get(key(claim));
        if (from !== server || slot?.current?.id !== subscription) return;
        // What is left of it cannot be had on it: its channel is asked for anew. A stream of user code cannot be, and is over.
        if (claim.source === ENDPOINT) {
          slot.claim?.end(new TidingsError(frames.overflowed ? LAGGED_OUT : ENDED, 'it was cut off'));
        } else {
          drop(slot);
          sync();
        }
      });
    },

    end(error) {
      over ??= error;
      for (const slot of slots.values()) {
        forget(slot);
        slot.claim?.end(error);
      }
      slots.clear();
    },
  };
};

const key = ({ source, name }: Named): string => source + name;

/** What it had on a connection is gone. */
const forget = (slot: Slot): void => {
  discard(slot.waiting.splice(0));
  slot.current = undefined;
  slot.asked = false;
};

/** Whether the server is to be asked for another beginning than `position`, where it began by itself. */
const wantsAnother = (claim: Claim, position: WirePosition): boolean => {
  const start = claim.start();
  if (!('position' in start)) return start.kind === 'latest';
  // In another log, too, there may be something before the head.
  return position.offset > 0n && toText(start.position) !== toText(position);
};

/** Whether it is worth asking again after a refusal. */
const passes = ({ code, retry }: TidingsError, claim: Claim): boolean =>
  // User code on the server subscribed this client, and the stream is still on its way; or one that was just given up has not ended yet.
  code === ALREADY_SUBSCRIBED ||
  // Who subscribed once is not ended by a server that has no room for the moment, or by a session that is ending. Nor by streams of
  // the connection before, or of what it has just ended, which still count.
  (claim.stood && (retry === 'backoff' || [ENDED, NO_STREAM_LEFT, TOO_MANY_SUBSCRIPTIONS].includes(code)));

/** This is what its name has from now on. */
const begin = (slot: Slot, id: bigint, position: WirePosition): void => {
  slot.current = { id, position };
  settle(slot);
};

/** Brings the stream and its reader together, once both are known. */
const settle = ({ claim, current, waiting }: Slot): void => {
  if (!claim || !current) return;
  claim.stand(current.position);
  for (const stream of waiting.splice(0)) {
    // Of a channel, only the stream that was asked for last; of user code, all that it opened, in order.
    if (claim.source === ENDPOINT || stream.subscription === current.id) claim.put(stream);
    else stream.frames.stop();
  }
};
