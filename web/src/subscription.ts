// A subscription as user code holds it.

import { beginning, type Claim, type Incoming } from './claim.ts';
import { type Retry, retryOf, TidingsError, UNSUBSCRIBED } from './codes.ts';
import { Events } from './events.ts';
import { next } from './frames.ts';
import { fromWire, type Message } from './message.ts';
import { type Position, toText } from './position.ts';
import type { Registry } from './registry.ts';
import { END, type FrameOf, LAGGED, OWN, PUBLICATION } from './wire/frames.ts';

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

export const publication = (epoch: string, { type: _, ...frame }: FrameOf<typeof PUBLICATION>): Publication => ({
  ...frame,
  epoch,
  position: toText({ epoch, offset: frame.offset }),
  message: fromWire(frame.message),
});

/**
 * Is read in one of two ways. `for await` pulls: who does not read makes the server stop writing this channel, and holds up no other;
 * leaving the loop unsubscribes. A listener makes it read by itself, as fast as events come. Listeners that are added once a loop runs
 * hear what the loop is given.
 */
export class Subscription extends Events<SubscriptionEvents> implements AsyncIterable<SubscriptionEvent> {
  /** The channel, or the name of the stream. */
  declare readonly channel: string;
  /** Where it began, once it stands: whatever is published from then on is delivered. Rejects with a `TidingsError` where it is refused. */
  declare readonly ready: Promise<Position>;
  readonly #registry: Registry;
  readonly #claim: Claim;
  readonly #events: AsyncGenerator<SubscriptionEvent, undefined> = this.#read();
  /** The stream that was taken up last. */
  #current: Incoming | undefined;
  #over = false;
  /** By a loop, or by listeners. */
  #reading = false;

  /** @internal Made by `Client`. */
  constructor(registry: Registry, claim: Claim) {
    super();
    this.channel = claim.name;
    this.ready = claim.ready.then(toText);
    // Whoever does not ask hears of it by `end`.
    this.ready.catch(() => {});
    this.#registry = registry;
    this.#claim = claim;
    registry.claim(claim);
  }

  /** The position of the last publication that was given, or where the subscription began: for `since`. */
  get position(): Position | undefined {
    return this.#claim.at && toText(this.#claim.at);
  }

  /** Whether its stream continues exactly where it was asked to. */
  get recovered(): boolean {
    return this.#current?.recovered ?? false;
  }

  /** Ends it, and the loop that reads it. What was not read is not given any more. */
  unsubscribe(): void {
    this.#finish(new TidingsError(UNSUBSCRIBED, 'unsubscribed'));
  }

  /** Once only, and not beside listeners. */
  [Symbol.asyncIterator](): AsyncIterator<SubscriptionEvent, undefined> {
    if (this.#reading) throw new TypeError(`${this.channel} is read already`);
    this.#reading = true;
    return {
      next: () => this.#next(),
      return: () => {
        this.unsubscribe();
        return this.#events.return(undefined);
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
    const next = await this.#events.next();
    if (!next.done) this.emit(next.value.type, next.value as never);
    return next;
  }

  async *#read(): AsyncGenerator<SubscriptionEvent, undefined> {
    const claim = this.#claim;
    // What came over the connection before is read before what tells of its successor.
    for (let stream = claim.take(); stream || !claim.over; stream = claim.take()) {
      if (stream) yield* this.#stream(stream);
      else await claim.more();
    }
    const { code, message, retry } = claim.over;
    this.#finish(claim.over);
    yield { type: 'end', code, reason: message, retry };
  }

  /** Gives the name up, so that it can be subscribed to again. */
  #finish(error: TidingsError): void {
    if (this.#over) return;
    this.#over = true;
    this.#registry.release(this.#claim);
    this.#current?.frames.stop();
    this.#claim.end(error);
  }

  async *#stream(incoming: Incoming): AsyncGenerator<SubscriptionEvent, undefined> {
    const claim = this.#claim;
    const { delivery, frames } = incoming;
    const after = beginning(incoming);
    const before = claim.at!;
    const same = before.epoch === after.epoch;
    // It goes on where this reader is; what it repeats is left out.
    const seamless = same && after.offset <= before.offset;
    const first = !this.#current;
    this.#current = incoming;
    if (!seamless) claim.at = after;
    if (!(first && seamless)) {
      const reached = claim.at!;
      const missed = same ? reached.offset - before.offset : undefined;
      yield { type: 'break', before: toText(before), after: toText(reached), missed };
    }
    for (;;) {
      const frame = await next(frames);
      if (!frame || this.#over) break;
      if (frame.type === END) {
        // Otherwise the server goes away, or has no room now: the next connection has the next stream.
        if (retryOf(frame.code) === 'no') this.#finish(new TidingsError(frame.code, frame.reason));
        break;
      }
      const { epoch, offset } = claim.at!;
      const due = offset + 1n;
      if (frame.type === PUBLICATION) {
        // Given already.
        if (frame.offset < due) continue;
        // The newest wins (PROTOCOL §5.6); elsewhere nothing is passed over in silence.
        if (frame.offset > due && delivery !== 2) break;
        claim.at = { epoch, offset: frame.offset };
        if (frame.offset > due) yield { type: 'skipped', from: due, to: frame.offset - 1n };
        if (!this.#over) yield { ...publication(epoch, frame), type: 'publication' };
      } else if ('from' in frame && frame.to >= due) {
        if (frame.from > due) break;
        claim.at = { epoch, offset: frame.to };
        // Its own is left out as it was wanted.
        if (frame.type !== OWN) yield { type: frame.type === LAGGED ? 'lagged' : 'skipped', from: due, to: frame.to };
      }
    }
    // Nothing comes of it but where it ended without a last word, or with one that says that another will follow.
    this.#registry.cutOff(claim, incoming);
    frames.stop();
  }
}
