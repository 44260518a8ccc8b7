// One stream of a name over all connections, and the subscriptions that read it.

import { beginning, type Claim, type Incoming } from './claim.ts';
import { retryOf, TidingsError } from './codes.ts';
import { next } from './frames.ts';
import { fromWire } from './message.ts';
import { plain } from './plain.ts';
import { toText } from './position.ts';
import type { Registry } from './registry.ts';
import { ending, type Publication, type SubscriptionEvent } from './subscription.ts';
import { END, type FrameOf, LAGGED, OWN, PUBLICATION, type WirePosition } from './wire/frames.ts';

/** Hears of an event, and of the position after it. */
export type Reader = (event: SubscriptionEvent, at: WirePosition | undefined) => void;

export interface Feed {
  readonly claim: Claim;
  readonly readers: Set<Reader>;
  /** Where it was asked to begin, in words; empty for the head. */
  readonly from: string;
  /** Whether the stream continues exactly where it was asked to. */
  recovered(): boolean;
  /** Gives the next event to all readers, once it is there. */
  pull(): void;
  /** One reader less: the last one ends the feed. */
  leave(reader: Reader, error: TidingsError): void;
}

export const publication = (epoch: string, { type: _, ...frame }: FrameOf<typeof PUBLICATION>): Publication => ({
  ...frame,
  epoch,
  position: toText({ epoch, offset: frame.offset }),
  message: fromWire(frame.message),
});

/** Takes the claim. `gone` hears when it is given up. */
export const newFeed = (registry: Registry, claim: Claim, from: string, gone: () => void): Feed => {
  const readers = new Set<Reader>();
  /** The stream that was taken up last. */
  let current: Incoming | undefined;
  let over = false;
  let pulling = false;

  /** Gives the name up, so that it can be subscribed to again. */
  const finish = (error: TidingsError) => {
    if (over) return;
    over = true;
    gone();
    registry.release(claim);
    current?.frames.stop();
    claim.end(error);
  };

  async function* read(): AsyncGenerator<SubscriptionEvent, undefined> {
    // What came over the connection before is read before what tells of its successor.
    for (let incoming = claim.take(); incoming || !claim.over; incoming = claim.take()) {
      if (incoming) yield* stream(incoming);
      else await claim.more();
    }
    finish(claim.over);
    yield ending(claim.over);
  }

  async function* stream(incoming: Incoming): AsyncGenerator<SubscriptionEvent, undefined> {
    const { delivery, frames } = incoming;
    const after = beginning(incoming);
    const before = claim.at!;
    const same = before.epoch === after.epoch;
    // It goes on where this reader is; what it repeats is left out.
    const seamless = same && after.offset <= before.offset;
    const first = !current;
    current = incoming;
    if (!seamless) claim.at = after;
    if (!(first && seamless)) {
      const reached = claim.at!;
      const missed = same ? reached.offset - before.offset : undefined;
      yield { type: 'break', before: toText(before), after: toText(reached), missed };
    }
    for (;;) {
      const frame = await next(frames);
      if (!frame || over) break;
      if (frame.type === END) {
        // Otherwise the server goes away, or has no room now: the next connection has the next stream.
        if (retryOf(frame.code) === 'no') finish(new TidingsError(frame.code, frame.reason));
        break;
      }
      const { epoch, offset } = claim.at!;
      const due = offset + 1n;
      if (frame.type === PUBLICATION) {
        // Given already.
        if (frame.offset < due) continue;
        // The newest wins (PROTOCOL §5.6); elsewhere nothing is passed over in silence.
        if (frame.offset > due) {
          if (delivery !== 2) break;
          claim.at = { epoch, offset: frame.offset - 1n };
          yield { type: 'skipped', from: due, to: frame.offset - 1n };
        }
        claim.at = { epoch, offset: frame.offset };
        if (!over) yield { ...publication(epoch, frame), type: 'publication' };
      } else if ('from' in frame && frame.to >= due) {
        if (frame.from > due) break;
        claim.at = { epoch, offset: frame.to };
        // Its own is left out as it was wanted.
        if (frame.type !== OWN) yield { type: frame.type === LAGGED ? 'lagged' : 'skipped', from: due, to: frame.to };
      }
    }
    // Nothing comes of it but where it ended without a last word, or with one that says that another will follow.
    registry.cutOff(claim, incoming);
    frames.stop();
  }

  registry.claim(claim);
  const events = read();
  const give = async () => {
    pulling = true;
    const { value } = await events.next();
    pulling = false;
    if (value) for (const reader of readers) reader(plain(value), claim.at);
  };
  return {
    claim,
    readers,
    from,
    recovered: () => current?.recovered ?? false,
    pull() {
      if (!pulling) void give();
    },
    leave(reader, error) {
      readers.delete(reader);
      if (!readers.size) finish(error);
    },
  };
};
