// User code's hold on a name.

import type { TidingsError } from './codes.ts';
import { type Mailbox, newMailbox } from './mailbox.ts';
import { OLDEST } from './position.ts';
import type { WirePosition, WireStart } from './wire/frames.ts';

/** `Registry.release` gives it up. */
export interface Claim {
  readonly source: number;
  readonly name: string;
  readonly mailbox: Mailbox;
  /** The last position that its reader was given, or from where it misses something. */
  at: WirePosition | undefined;
  /** Where it began, once it stands. Rejects where it is refused. */
  readonly ready: Promise<WirePosition>;
  /** The subscription stands; there may be others on later connections. */
  stand(position: WirePosition): void;
  /** Whether it ever stood. */
  stood(): boolean;
  /** Where the next connection takes it up. */
  start(): WireStart;
  /** It is over. */
  end(error: TidingsError): void;
}

export function newClaim(source: number, name: string, start: WireStart): Claim {
  const mailbox = newMailbox();
  let stood = false;
  let resolve!: (position: WirePosition) => void;
  let reject!: (error: TidingsError) => void;
  const claim: Claim = {
    source,
    name,
    mailbox,
    // Before the oldest there is nothing to miss.
    at: 'position' in start && start.position.epoch !== OLDEST.epoch ? start.position : undefined,
    ready: new Promise((stands, refused) => {
      resolve = stands;
      reject = refused;
    }),
    stand(position) {
      stood = true;
      claim.at ??= position;
      resolve(position);
    },
    stood: () => stood,
    start: () => (stood ? { kind: 'afterOrOldest', position: claim.at! } : start),
    end(error) {
      reject(error);
      mailbox.put(error);
    },
  };
  // Whoever does not ask hears of it by `end`.
  claim.ready.catch(() => {});
  return claim;
}
