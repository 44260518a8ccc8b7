// A subscription as user code holds it.

import { type Retry, retryOf, TidingsError, UNSUBSCRIBED } from './codes.ts';
import { Events } from './events.ts';
import { next } from './frames.ts';
import { beginning, type Incoming } from './mailbox.ts';
import { fromWire, type Message } from './message.ts';
import { hex, type Position, toText } from './position.ts';
import { Claim, type Registry } from './registry.ts';
import {
  END,
  type Frame,
  type FrameOf,
  LAGGED,
  OWN,
  PUBLICATION,
  SKIPPED,
  type WirePosition,
  type WireStart,
} from './wire/frames.ts';

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

export const publication = (epoch: bigint, frame: FrameOf<typeof PUBLICATION>): Publication => ({
  epoch: hex(epoch),
  offset: frame.offset,
  position: toText({ epoch, offset: frame.offset }),
  time: Number(frame.time),
  ...(frame.publisher !== undefined && { publisher: frame.publisher }),
  message: fromWire(frame.message),
});

/**
 * Is read in one of two ways. `for await` pulls: who does not read makes the server stop writing this channel, and holds up no other;
 * leaving the loop unsubscribes. A listener makes it read by itself, as fast as events come. Listeners that are added once a loop runs
 * hear what the loop is given.
 */
export class Subscription extends Events<SubscriptionEvents> implements AsyncIterable<SubscriptionEvent> {
  /** The channel, or the name of the stream. */
  readonly channel: string;
  /** Where it began, once it stands: whatever is published from then on is delivered. Rejects with a `TidingsError` where it is refused. */
  readonly ready: Promise<Position>;
  readonly #registry: Registry;
  readonly #claim: Claim;
  #current: Incoming | undefined;
  /** Last position given. */
  #at: WirePosition | undefined;
  /** A stream was taken up. */
  #begun = false;
  #recovered = false;
  /** What follows the gap that was told last. */
  #afterGap: SubscriptionEvent | undefined;
  /** Why it is over, and whether that was told. */
  #end: TidingsError | undefined;
  #over = false;
  #reading: 'loop' | 'listeners' | undefined;
  #turn: Promise<SubscriptionEvent | undefined> = Promise.resolve(undefined);

  /** @internal Made by `Client`. */
  constructor(registry: Registry, source: number, channel: string, start: WireStart) {
    super();
    this.channel = channel;
    this.#registry = registry;
    let claim: Claim | undefined;
    this.ready = new Promise((resolve, reject) => {
      claim = new Claim(source, channel, start, answer => {
        if (answer instanceof TidingsError) {
          reject(answer);
        } else {
          this.#at ??= answer;
          resolve(toText(answer));
        }
      });
    });
    // Whoever does not ask hears of it by `end`.
    this.ready.catch(() => {});
    this.#claim = claim!;
    // What is missing since then is told, too. Before the oldest there is nothing to miss.
    if ('position' in start && start.position.epoch) this.#at = start.position;
    registry.claim(this.#claim);
  }

  /** The position of the last publication that was given, or where the subscription began: for `since`. */
  get position(): Position | undefined {
    return this.#at && toText(this.#at);
  }

  /** Whether its stream continues exactly where it was asked to. */
  get recovered(): boolean {
    return this.#recovered;
  }

  /** Ends it, and the loop that reads it. What was not read is not given any more. */
  unsubscribe(): void {
    this.#finish(new TidingsError(UNSUBSCRIBED, 'unsubscribed'));
  }

  /** Once only, and not beside listeners. */
  [Symbol.asyncIterator](): AsyncIterator<SubscriptionEvent, undefined> {
    if (this.#reading) throw new TypeError(`${this.channel} is read already, by ${this.#reading}`);
    this.#reading = 'loop';
    return {
      next: async () => {
        const value = await this.#pull();
        return value ? { value, done: false } : { value, done: true };
      },
      return: async () => {
        this.unsubscribe();
        return { value: undefined, done: true };
      },
    };
  }

  protected override listened(): void {
    if (this.#reading) return;
    this.#reading = 'listeners';
    void (async () => {
      while (await this.#pull());
    })();
  }

  /** The next event, in the order of the calls. */
  #pull(): Promise<SubscriptionEvent | undefined> {
    this.#turn = this.#turn.then(() => this.#next());
    return this.#turn;
  }

  async #next(): Promise<SubscriptionEvent | undefined> {
    while (!this.#over) {
      const event = this.#end ? this.#last(this.#end) : await this.#read();
      if (!event || (this.#end && !this.#over)) continue;
      this.emit(event.type, event as never);
      return event;
    }
    return undefined;
  }

  #last({ code, message, retry }: TidingsError): EndEvent {
    this.#over = true;
    return { type: 'end', code, reason: message, retry };
  }

  async #read(): Promise<SubscriptionEvent | undefined> {
    const event = this.#afterGap;
    this.#afterGap = undefined;
    if (event) return event;
    const { mailbox } = this.#claim;
    if (this.#current) {
      // What came over the connection before is read before what tells of its successor.
      const frame = await next(this.#current.frames);
      return frame ? this.#frame(frame) : this.#cutOff();
    }
    const feed = mailbox.take();
    if (!feed) await mailbox.changed.wait();
    else if (feed instanceof TidingsError) this.#finish(feed);
    else return this.#takeUp(feed);
    return undefined;
  }

  /** Gives the name up, so that it can be subscribed to again. */
  #finish(error: TidingsError): void {
    if (this.#end) return;
    this.#end = error;
    this.#claim.answer?.(error);
    this.#registry.release(this.#claim);
    this.#current?.frames.stop();
    this.#claim.mailbox.changed.wake();
  }

  /** The stream ended without a last word, or with one that says that another will follow. */
  #cutOff(): undefined {
    const current = this.#current;
    this.#current = undefined;
    if (!current || this.#end) return;
    this.#registry.cutOff(this.#claim, current);
    current.frames.stop();
  }

  #takeUp(incoming: Incoming): SubscriptionEvent | undefined {
    const after = beginning(incoming);
    const before = this.#at;
    const first = !this.#begun;
    this.#current = incoming;
    this.#begun = true;
    this.#recovered = incoming.header.recovered;
    // It goes on where this reader is; what it repeats is left out.
    const seamless = before?.epoch === after.epoch && after.offset <= before.offset;
    if (!seamless) this.#reach(after);
    if (!before || (first && seamless)) return undefined;
    const reached = seamless ? before : after;
    const missed = before.epoch === after.epoch ? reached.offset - before.offset : undefined;
    return { type: 'break', before: toText(before), after: toText(reached), missed };
  }

  /** What is given next stands after this position, and the next connection takes it up from there. */
  #reach(position: WirePosition): void {
    this.#at = this.#claim.mailbox.reached = position;
  }

  #frame(frame: Frame): SubscriptionEvent | undefined {
    switch (frame.type) {
      case PUBLICATION:
        return this.#advance(frame, frame.offset, frame.offset);
      case LAGGED:
      case SKIPPED:
      case OWN:
        return this.#advance(frame, frame.from, frame.to);
      case END:
        if (retryOf(frame.code) === 'no') {
          this.#finish(new TidingsError(frame.code, frame.reason));
          return undefined;
        }
        // The server goes away, or has no room now: the next connection has the next stream.
        return this.#cutOff();
      default:
        return undefined;
    }
  }

  /** Moves on over the offsets from `from` to `to`, of which those that were given already count as given. */
  #advance(
    frame: FrameOf<typeof PUBLICATION | typeof LAGGED | typeof SKIPPED | typeof OWN>,
    from: bigint,
    to: bigint,
  ): SubscriptionEvent | undefined {
    const { epoch, offset } = this.#at!;
    const due = offset + 1n;
    if (to < due) return undefined;
    // The newest wins (PROTOCOL §5.6); elsewhere nothing is passed over in silence.
    const newest = frame.type === PUBLICATION && this.#current?.header.delivery === 2;
    if (from > due && !newest) return this.#cutOff();
    this.#reach({ epoch, offset: to });
    // As it was wanted.
    if (frame.type === OWN) return undefined;
    if (frame.type !== PUBLICATION) return { type: frame.type === LAGGED ? 'lagged' : 'skipped', from: due, to };
    const event: PublicationEvent = { type: 'publication', ...publication(epoch, frame) };
    if (from === due) return event;
    this.#afterGap = event;
    return { type: 'skipped', from: due, to: to - 1n };
  }
}
