// A subscription as user code holds it: one of the readers of a feed.

import { ALREADY_SUBSCRIBED, type Retry, TidingsError, UNSUBSCRIBED } from './codes.ts';
import { Events } from './events.ts';
import type { Feed, Reader } from './feed.ts';
import { newSignal, type Signal } from './frames.ts';
import { READER_EVENTS } from './limits.ts';
import type { Message } from './message.ts';
import { plain } from './plain.ts';
import { type Position, toText } from './position.ts';
import type { WirePosition } from './wire/frames.ts';

/** A message in a channel (PROTOCOL §5.2). */
export interface Publication {
  /** Identity of the channel's log: 16 hexadecimal digits. */
  epoch: string;
  /** Number in the log, from 1. */
  offset: bigint;
  /** Both, to be stored, and given to `since` later. */
  position: Position;
  /** When the server accepted it, in ms since 1970. */
  time: number;
  /** The user who published it; absent for the server itself, a session without a user, and where the channel's rule hides it. */
  publisher?: string;
  message: Message;
}

/** The next publication. */
export interface PublicationEvent extends Publication {
  type: 'publication';
}
/**
 * These offsets do not come, both ends included. `lagged`: this reader was too slow, and the server no longer has them. `skipped`: the
 * server left them out as the channel's rule says, or, where they travel as datagrams, the network lost them; the newest follows.
 */
export interface GapEvent {
  type: 'lagged' | 'skipped';
  from: bigint;
  to: bigint;
}
/**
 * The connection broke and was made again, or the subscription could not begin where it was asked to. What was published in between
 * follows, where the server still has all of it.
 */
export interface BreakEvent {
  type: 'break';
  /** The last position before it. */
  before: Position;
  /** Where the subscription goes on: the next publication has the next offset. */
  after: Position;
  /** How many publications are missing, `0n` for none; `undefined` where that cannot be known: the channel's log began anew. */
  missed: bigint | undefined;
}
/** The subscription is over; nothing follows. */
export interface EndEvent {
  type: 'end';
  /** One of `codes`, or of the application. */
  code: number;
  reason: string;
  retry: Retry;
}
/** What a subscription gives. */
export type SubscriptionEvent = PublicationEvent | GapEvent | BreakEvent | EndEvent;

interface SubscriptionEvents {
  publication: PublicationEvent;
  lagged: GapEvent;
  skipped: GapEvent;
  break: BreakEvent;
  end: EndEvent;
}

/** What a subscription was given and its reader has not, with the position after it. */
type Queue = [event: SubscriptionEvent, at: WirePosition | undefined][];

/** What a reader that is too slow misses becomes one gap; breaks and the end stay. */
const condense = (queue: Queue): void => {
  for (const [event, at] of queue.splice(0)) {
    const { offset, from = offset, to = offset } = event as Partial<Publication & GapEvent>;
    const last = queue.at(-1);
    if (to === undefined) queue.push([event, at]);
    else if (last?.[0].type === 'lagged') queue.splice(-1, 1, [plain({ ...last[0], to }), at]);
    else queue.push([plain({ type: 'lagged', from: from!, to }), at]);
  }
  queue.splice(0, queue.length - READER_EVENTS / 2);
};

/**
 * Is read in one of two ways. `for await` pulls: who does not read makes the server stop writing this channel, and holds up no other;
 * leaving the loop unsubscribes. A listener makes it read by itself, as fast as events come. Listeners that are added once a loop runs
 * hear what the loop is given. Subscriptions of one client to the same channel share a stream, which ends with the last of them: the
 * quickest reader sets its pace, and one that is 256 events behind it is given a `lagged` for those.
 */
export class Subscription extends Events<SubscriptionEvents> implements AsyncIterable<SubscriptionEvent> {
  /** The channel, or the name of the stream. */
  declare readonly channel: string;
  /** Where it began, once it stands: whatever is published from then on is delivered. Rejects with a `TidingsError` where it is refused. */
  declare readonly ready: Promise<Position>;
  readonly #feed: Feed;
  readonly #queue: Queue = [];
  readonly #put: Reader;
  readonly #signal: Signal = newSignal();
  /** After what was given last. */
  #at: WirePosition | undefined;
  #over = false;
  /** By a loop, or by listeners. */
  #reading = false;

  /** @internal Made by `Client`. */
  constructor(feed: Feed) {
    super();
    const { claim } = feed;
    this.channel = claim.name;
    this.#feed = feed;
    this.#at = claim.at;
    // A later reader begins where the stream is.
    const joined = claim.stood && claim.at;
    this.ready = claim.ready.then(begin => {
      this.#at ??= claim.at;
      return toText(joined || begin);
    });
    // Whoever does not ask hears of it by `end`.
    this.ready.catch(() => {});
    this.#put = (event, at) => {
      if (this.#queue.push([event, at]) > READER_EVENTS) condense(this.#queue);
      this.#signal[1]();
    };
    feed.readers.add(this.#put);
  }

  /** The position of the last publication that was given, or where the subscription began: for `since`. */
  get position(): Position | undefined {
    return this.#at && toText(this.#at);
  }

  /** Whether its stream continues exactly where it was asked to. */
  get recovered(): boolean {
    return this.#feed.recovered();
  }

  /** Ends it, and the loop that reads it. What was not read is not given any more. */
  unsubscribe(): void {
    if (this.#over || !this.#feed.readers.has(this.#put)) return;
    const error = new TidingsError(UNSUBSCRIBED, 'unsubscribed');
    this.#queue.length = 0;
    this.#put(ending(error), this.#at);
    this.#feed.leave(this.#put, error);
  }

  /** Once only, and not beside listeners. */
  [Symbol.asyncIterator](): AsyncIterator<SubscriptionEvent, undefined> {
    if (this.#reading) throw new TidingsError(ALREADY_SUBSCRIBED, `${this.channel} is read already`);
    this.#reading = true;
    return {
      next: () => this.#next(),
      return: async () => {
        this.unsubscribe();
        this.#over = true;
        this.#queue.length = 0;
        this.#signal[1]();
        return DONE;
      },
    };
  }

  protected override listened(): void {
    if (this.#reading) return;
    this.#reading = true;
    void (async () => {
      while (!(await this.#next()).done);
    })();
  }

  /** The next event, in the order of the calls. */
  async #next(): Promise<IteratorResult<SubscriptionEvent, undefined>> {
    while (!this.#over && !this.#queue.length) {
      this.#feed.pull();
      await this.#signal[0]();
    }
    const [value, at] = this.#queue.shift() ?? [];
    if (!value) return DONE;
    this.#at = at;
    this.#over = value.type === 'end';
    this.emit(value.type, value as never);
    return { value, done: false };
  }
}

const DONE: IteratorReturnResult<undefined> = { value: undefined, done: true };

/** The last event. */
export const ending = ({ code, message, retry }: TidingsError): EndEvent =>
  plain({ type: 'end', code, reason: message, retry });
