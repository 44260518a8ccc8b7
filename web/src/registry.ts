// Who reads what: the meeting place of streams that the server opens and subscriptions that user code holds.

import {
  ALREADY_SUBSCRIBED,
  ENDED,
  LAGGED_OUT,
  NO_STREAM_LEFT,
  TidingsError,
  TOO_MANY_SUBSCRIPTIONS,
} from './codes.ts';
import { Inboxes } from './datagram.ts';
import { beginning, discard, type Incoming, Mailbox } from './mailbox.ts';
import type { WirePosition, WireStart } from './wire/frames.ts';

/** Where a stream comes from (PROTOCOL §5.1): a channel, or user code on the server. */
export const CHANNEL = 0;
export const ENDPOINT = 1;

const ORPHANS = 1024;

/** User code's hold on a name; `Registry.release` gives it up. */
export class Claim {
  readonly source: number;
  readonly name: string;
  readonly start: WireStart;
  readonly mailbox: Mailbox = new Mailbox();
  /** Hears once, that the subscription stands or is refused. */
  answer: ((answer: WirePosition | TidingsError) => void) | undefined;

  constructor(source: number, name: string, start: WireStart, answer: Claim['answer']) {
    this.source = source;
    this.name = name;
    this.start = start;
    this.answer = answer;
  }
}

/** What is known of one name. */
interface Slot {
  /** The reader; none for what came unasked and was not taken up yet. */
  claim: Claim | undefined;
  /** Id and beginning on this connection. */
  current: { id: bigint; position: WirePosition } | undefined;
  /** The stream of `current` has arrived. */
  arrived: boolean;
  /** Asked for on this connection, or made by the server. */
  asked: boolean;
  /** Arrived and not handed over. Bounded by the streams that the server may open, and the parts that a lane may have. */
  waiting: Incoming[];
}

/** What the registry asks of a connection. */
export interface Server {
  unsubscribe(id: bigint): void;
  subscribe(name: string, start: WireStart): void;
  /** Calls `then` in a while: the end of a connection cuts its streams off too, and is seen a moment later. */
  later(then: () => void): void;
}

/** What a client reads, over all its connections. */
export class Registry {
  /** Number of this connection. */
  connection = 0;
  #server: Server | undefined;
  #slots = new Map<string, Slot>();
  /** Channels whose `Subscribe` is not answered yet: none is asked for twice at a time. */
  #asking = new Set<string>();
  /** Given up before their streams arrived, which are to be dropped when they do. */
  #orphans = new Set<bigint>();
  #inboxes = new Inboxes();
  #over: TidingsError | undefined;

  /** Takes a name for a reader. Throws where it has one. */
  claim(claim: Claim): void {
    const slot = this.#slot(claim.source, claim.name);
    if (slot.claim) throw new TidingsError(ALREADY_SUBSCRIBED, `${claim.name} is subscribed to already`);
    slot.claim = claim;
    if (this.#over) {
      this.#slots.delete(key(claim.source, claim.name));
      claim.answer?.(this.#over);
      claim.mailbox.put(this.#over);
      return;
    }
    if (slot.current && wantsAnother(slot, slot.current.position)) {
      // What the server gave unasked goes, in favour of one that begins where this reader wants to.
      this.#end(slot.current.id, slot.waiting.length > 0);
      discard(slot.waiting.splice(0));
      slot.current = undefined;
      slot.asked = false;
    }
    settle(slot, claim.source);
    this.#sync();
  }

  /** Gives a claim up: the server is told. */
  release(claim: Claim): void {
    const name = key(claim.source, claim.name);
    const slot = this.#slots.get(name);
    const rest = claim.mailbox.drain();
    if (slot?.claim !== claim) {
      discard(rest);
      return;
    }
    const { current } = slot;
    this.#slots.delete(name);
    const mine = ({ connection, header }: Incoming) =>
      connection === this.connection && header.subscription === current?.id;
    // User code on the server may have opened its stream again before the end of the one before was read.
    if (claim.source === ENDPOINT && rest.some(mine)) {
      this.#slots.set(name, { claim: undefined, current, arrived: true, asked: true, waiting: rest });
      return;
    }
    discard(rest);
    discard(slot.waiting);
    if (current) this.#end(current.id, slot.arrived);
  }

  /** A new connection: what the old one had is gone; these are subscribed already. */
  connected(server: Server, automatic: { channel: string; subscription: bigint; position: WirePosition }[]): void {
    this.connection++;
    this.#server = server;
    this.#asking.clear();
    this.#orphans.clear();
    this.#inboxes = new Inboxes();
    for (const [name, slot] of this.#slots) {
      discard(slot.waiting.splice(0));
      if (slot.claim) Object.assign(slot, { current: undefined, arrived: false, asked: false });
      else this.#slots.delete(name);
    }
    for (const { channel, subscription, position } of automatic) {
      const slot = this.#slot(CHANNEL, channel);
      if (wantsAnother(slot, position)) {
        // In favour of one that begins where this reader is.
        this.#end(subscription, false);
      } else {
        slot.current = { id: subscription, position };
        slot.asked = true;
        settle(slot, CHANNEL);
      }
    }
    this.#sync();
  }

  /** The connection is over. */
  disconnected(): void {
    this.#server = undefined;
  }

  /** `Subscribed` came: it is for who wants the channel now. */
  subscribed(name: string, id: bigint, position: WirePosition): void {
    this.#asking.delete(name);
    const slot = this.#slots.get(key(CHANNEL, name));
    if (slot?.claim && slot.asked && !slot.current) {
      slot.current = { id, position };
      settle(slot, CHANNEL);
    } else {
      // Given up meanwhile. Whoever claimed the channel anew may want another beginning.
      const arrived = slot?.waiting.filter(stream => stream.header.subscription === id) ?? [];
      if (slot) {
        slot.waiting = slot.waiting.filter(stream => !arrived.includes(stream));
        if (!slot.claim && !slot.current && !slot.waiting.length) this.#slots.delete(key(CHANNEL, name));
      }
      discard(arrived);
      this.#end(id, arrived.length > 0);
    }
    this.#sync();
  }

  /** A request was refused; whether to ask again after a pause, by {@link askAgain}. */
  refused(name: string, error: TidingsError): boolean {
    this.#asking.delete(name);
    const slot = this.#slots.get(key(CHANNEL, name));
    if (!slot) return false;
    if (!slot.asked) {
      // Claimed anew while the request was under way: it was not this reader's.
      this.#sync();
      return false;
    }
    // User code on the server subscribed this client while the request was on its way.
    const stream = slot.waiting.at(-1);
    if (stream) {
      slot.current = { id: stream.header.subscription, position: beginning(stream) };
      settle(slot, CHANNEL);
      return false;
    }
    // The same, and its stream is still on its way; or one that was just given up has not ended yet.
    if (error.code === ALREADY_SUBSCRIBED) return true;
    // Who subscribed once is not ended by a server that has no room for the moment, or by a session that is ending. Nor by streams of
    // the connection before, or of what it has just ended, which still count.
    const passes = error.retry === 'backoff' || [ENDED, NO_STREAM_LEFT, TOO_MANY_SUBSCRIPTIONS].includes(error.code);
    if (!slot.claim?.answer && passes) return true;
    this.#slots.delete(key(CHANNEL, name));
    slot.claim?.answer?.(error);
    slot.claim?.mailbox.put(error);
    return false;
  }

  /** Asks for a channel again that was refused. */
  askAgain(name: string): void {
    const slot = this.#slots.get(key(CHANNEL, name));
    if (slot && !slot.current) slot.asked = false;
    this.#sync();
  }

  /** A stream arrived. */
  arrived(incoming: Incoming): void {
    const { header } = incoming;
    if (this.#orphans.delete(header.subscription)) {
      incoming.frames.stop();
      return;
    }
    if (header.delivery === 2) incoming.frames = this.#inboxes.open(header.subscription, incoming.frames);
    const slot = this.#slot(header.source, header.name);
    const unasked = !this.#asking.has(header.name) && !slot.current;
    if (header.source === ENDPOINT || unasked) {
      slot.current = { id: header.subscription, position: beginning(incoming) };
      slot.asked = true;
    }
    slot.waiting.push(incoming);
    settle(slot, header.source);
  }

  /** A datagram arrived. */
  get datagrams(): Inboxes {
    return this.#inboxes;
  }

  /** The stream of a claim ended without a word. Of a connection that is over nothing follows from that. */
  cutOff(claim: Claim, { connection, header, frames }: Incoming): void {
    const { subscription } = header;
    const again = (code: number, reason: string) => {
      if (connection === this.connection) this.#beginAnew(claim, subscription, new TidingsError(code, reason));
    };
    // The reader has read what there was before its part of a shared stream ran over: it is to have the rest.
    if (frames.overflowed) again(LAGGED_OUT, 'the stream was not read in time');
    else if (connection === this.connection) {
      this.#server?.later(() => again(ENDED, 'the server cut the stream off'));
    }
  }

  /** Nothing will come any more. */
  end(error: TidingsError): void {
    this.#over ??= error;
    const slots = [...this.#slots.values()];
    this.#slots.clear();
    for (const { claim, waiting } of slots) {
      discard(waiting);
      claim?.answer?.(error);
      claim?.mailbox.put(error);
    }
  }

  /** What is left of a stream cannot be had on it: its channel is asked for anew. A stream of user code cannot be, and is over. */
  #beginAnew(claim: Claim, id: bigint, error: TidingsError): void {
    const slot = this.#slots.get(key(claim.source, claim.name));
    if (slot?.current?.id !== id) return;
    if (claim.source === ENDPOINT) {
      slot.claim?.mailbox.put(error);
      return;
    }
    Object.assign(slot, { current: undefined, arrived: false, asked: false });
    this.#server?.unsubscribe(id);
    this.#sync();
  }

  #slot(source: number, name: string): Slot {
    let slot = this.#slots.get(key(source, name));
    if (!slot) {
      slot = { claim: undefined, current: undefined, arrived: false, asked: false, waiting: [] };
      this.#slots.set(key(source, name), slot);
    }
    return slot;
  }

  #end(id: bigint, arrived: boolean): void {
    this.#server?.unsubscribe(id);
    if (!this.#server || arrived) return;
    // Of some the stream was dropped already: the oldest are those that will not come.
    this.#orphans.add(id);
    if (this.#orphans.size > ORPHANS) this.#orphans.delete(this.#orphans.values().next().value!);
  }

  /** Asks for what is claimed and was not asked for. */
  #sync(): void {
    if (!this.#server) return;
    for (const slot of this.#slots.values()) {
      const { claim } = slot;
      if (claim?.source !== CHANNEL || slot.asked || this.#asking.has(claim.name)) continue;
      this.#asking.add(claim.name);
      slot.asked = true;
      this.#server.subscribe(claim.name, startOf(claim));
    }
  }
}

const key = (source: number, name: string): string => source + name;

/** Where a reader is to be taken up. */
const startOf = ({ mailbox, start }: Claim): WireStart =>
  mailbox.reached ? { kind: 'afterOrOldest', position: mailbox.reached } : start;

/** Whether the server is to be asked for another beginning than `position`, where it began by itself. */
function wantsAnother({ claim }: Slot, position: WirePosition): boolean {
  if (!claim) return false;
  const start = startOf(claim);
  if (start.kind === 'head') return false;
  if (start.kind === 'latest') return true;
  const { epoch, offset } = start.position;
  const elsewhere = epoch !== position.epoch || offset !== position.offset;
  // In another log, too, there may be something before the head.
  return start.kind === 'after' ? epoch === position.epoch && elsewhere : elsewhere && position.offset > 0n;
}

/** Brings the stream and its reader together, once both are known. */
function settle(slot: Slot, source: number): void {
  const { claim, current } = slot;
  if (!claim || !current) return;
  claim.answer?.(current.position);
  claim.answer = undefined;
  claim.mailbox.reached ??= current.position;
  for (const stream of slot.waiting.splice(0)) {
    // Of a channel, only the stream that was asked for last; of user code, all that it opened, in order.
    if (source === ENDPOINT || stream.header.subscription === current.id) {
      slot.arrived = true;
      claim.mailbox.put(stream);
    } else {
      stream.frames.stop();
    }
  }
}
