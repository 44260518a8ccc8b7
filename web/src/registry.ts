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
import { type Frame, SUBSCRIBED, type WirePosition, type WireStart } from './wire/frames.ts';

/** Where a stream comes from (PROTOCOL §5.1): a channel, or user code on the server. */
export const CHANNEL = 0;
export const ENDPOINT = 1;

/** What is known of one name. */
interface Slot {
  source: number;
  /** The reader; none for what came unasked and was not taken up yet. */
  claim?: Claim;
  /** Id and beginning on this connection, and whether its stream has arrived. */
  current: { id: bigint; position: WirePosition; arrived: boolean } | undefined;
  /** Asked for on this connection. */
  asked: boolean;
  /** Arrived and not handed over. Bounded by the streams that the server may open, and the parts that a lane may have. */
  waiting: Incoming[];
}

/** What the registry asks of a connection. Once that is over, nothing comes of it. */
export interface Server {
  unsubscribe(id: bigint): void;
  subscribe(name: string, start: WireStart, answered: (answer: Frame | TidingsError) => void): void;
  later(ms: number, then: () => void): void;
}

/** What a client reads, over all its connections. */
export interface Registry {
  /** Takes a name for a reader. Throws where it has one. */
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

export function newRegistry(): Registry {
  let server: Server | undefined;
  let over: TidingsError | undefined;
  const slots = new Map<string, Slot>();
  /** Channels whose `Subscribe` is not answered yet: none is asked for twice at a time. */
  const asking = new Set<string>();
  /** Given up before their streams arrived, which are to be dropped when they do. */
  const orphans = new Set<bigint>();

  const slotOf = (source: number, name: string): Slot => {
    let slot = slots.get(key(source, name));
    if (!slot) slots.set(key(source, name), (slot = { source, current: undefined, asked: false, waiting: [] }));
    return slot;
  };

  /** Ends a subscription; its stream is dropped, if need be when it arrives. */
  const end = (id: bigint, arrived: boolean) => {
    server?.unsubscribe(id);
    if (!arrived) orphans.add(id);
    // Of some the stream was dropped already: the oldest are those that will not come.
    if (orphans.size > ORPHANS) orphans.delete(orphans.values().next().value!);
  };

  /** The same for what a name has on this connection. */
  const drop = (slot: Slot) => {
    if (slot.current) end(slot.current.id, slot.current.arrived);
    forget(slot);
  };

  /** Asks for what is claimed and was not asked for. */
  const sync = () => {
    for (const [name, slot] of slots) {
      const { claim, current, asked } = slot;
      if (!server || claim?.source !== CHANNEL || current || asked || asking.has(name)) continue;
      asking.add(name);
      slot.asked = true;
      server.subscribe(claim.name, claim.start(), answer => answered(name, answer));
    }
  };

  /** An answer is for who wants the channel now. */
  const answered = (name: string, answer: Frame | TidingsError) => {
    const slot = slots.get(name);
    const stream = slot?.waiting.at(-1);
    if (!(answer instanceof TidingsError)) {
      if (answer.type !== SUBSCRIBED) return;
      const { subscription: id, position } = answer;
      asking.delete(name);
      if (slot?.asked && !slot.current) {
        slot.current = { id, position, arrived: false };
        settle(slot);
      } else {
        // Given up meanwhile. Whoever claimed the channel anew may want another beginning.
        end(id, false);
        const waiting = slot?.waiting.splice(0) ?? [];
        if (!slot?.claim && !slot?.current) slots.delete(name);
        waiting.forEach(arrived);
      }
      sync();
      return;
    }
    // The next connection asks again.
    if (answer.code === LOST || answer.code === GOING_AWAY) return;
    asking.delete(name);
    if (!slot?.asked) {
      // Claimed anew while the request was under way: it was not this reader's.
      sync();
    } else if (stream) {
      // User code on the server subscribed this client while the request was on its way.
      begin(slot, stream);
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
  };

  const arrived = (incoming: Incoming) => {
    const { subscription, source, name } = incoming.header;
    if (orphans.delete(subscription)) return incoming.frames.stop();
    const slot = slotOf(source, name);
    slot.waiting.push(incoming);
    if (slot.current?.id === subscription) slot.current.arrived = true;
    if (source === ENDPOINT || !(slot.current || asking.has(key(source, name)))) begin(slot, incoming);
    else settle(slot);
  };

  return {
    arrived,

    claim(claim) {
      if (over) return claim.end(over);
      const slot = slotOf(claim.source, claim.name);
      if (slot.claim) throw new TidingsError(ALREADY_SUBSCRIBED, `${claim.name} is subscribed to already`);
      slot.claim = claim;
      // What the server gave unasked goes, in favour of one that begins where this reader wants to.
      if (slot.current && wantsAnother(claim, slot.current.position)) drop(slot);
      settle(slot);
      sync();
    },

    release(claim) {
      const name = key(claim.source, claim.name);
      const slot = slots.get(name);
      const rest = claim.drain();
      if (slot?.claim === claim) {
        const mine = ({ server: from, header }: Incoming) =>
          from === server && header.subscription === slot.current?.id;
        if (claim.source === ENDPOINT && rest.some(mine)) {
          // User code on the server has opened its stream again before the end of the one before was read.
          delete slot.claim;
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
        const slot = slotOf(CHANNEL, channel);
        // If need be in favour of one that begins where this reader is.
        if (slot.claim && wantsAnother(slot.claim, position)) {
          end(id, false);
        } else {
          slot.current = { id, position, arrived: false };
          settle(slot);
        }
      }
      sync();
    },

    cutOff(claim, { server: from, header, frames }) {
      const again = (code: number, reason: string) => {
        const slot = slots.get(key(claim.source, claim.name));
        if (from !== server || slot?.current?.id !== header.subscription) return;
        // What is left of it cannot be had on it: its channel is asked for anew. A stream of user code cannot be, and is over.
        if (claim.source === ENDPOINT) return slot.claim?.end(new TidingsError(code, reason));
        drop(slot);
        sync();
      };
      // The reader has read what there was before its part of a shared stream ran over: it is to have the rest.
      if (frames.overflowed) again(LAGGED_OUT, 'the stream was not read in time');
      // The end of a connection cuts its streams off too, and is seen a moment later.
      else from.later(CUT, () => again(ENDED, 'the server cut the stream off'));
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
}

const key = (source: number, name: string): string => source + name;

/** What it had on a connection is gone. */
function forget(slot: Slot): void {
  discard(slot.waiting.splice(0));
  slot.current = undefined;
  slot.asked = false;
}

/** Whether the server is to be asked for another beginning than `position`, where it began by itself. */
function wantsAnother(claim: Claim, position: WirePosition): boolean {
  const start = claim.start();
  if (!('position' in start)) return start.kind === 'latest';
  const { epoch, offset } = start.position;
  // In another log, too, there may be something before the head.
  return position.offset > 0n && (epoch !== position.epoch || offset !== position.offset);
}

/** Whether it is worth asking again after a refusal. */
const passes = ({ code, retry }: TidingsError, claim: Claim): boolean =>
  // User code on the server subscribed this client, and the stream is still on its way; or one that was just given up has not ended yet.
  code === ALREADY_SUBSCRIBED ||
  // Who subscribed once is not ended by a server that has no room for the moment, or by a session that is ending. Nor by streams of
  // the connection before, or of what it has just ended, which still count.
  (claim.stood && (retry === 'backoff' || [ENDED, NO_STREAM_LEFT, TOO_MANY_SUBSCRIPTIONS].includes(code)));

/** A stream that arrived is what its name has from now on. */
function begin(slot: Slot, stream: Incoming): void {
  slot.current = { id: stream.header.subscription, position: beginning(stream), arrived: true };
  settle(slot);
}

/** Brings the stream and its reader together, once both are known. */
function settle({ source, claim, current, waiting }: Slot): void {
  if (!claim || !current) return;
  claim.stand(current.position);
  for (const stream of waiting.splice(0)) {
    // Of a channel, only the stream that was asked for last; of user code, all that it opened, in order.
    if (source === ENDPOINT || stream.header.subscription === current.id) {
      current.arrived = true;
      claim.put(stream);
    } else {
      stream.frames.stop();
    }
  }
}
