// What a subscription was given, counted.

import { parsePosition, type Subscription } from '/sdk/index.js';

export class Tally {
  readonly channel: string;
  /** Publications. */
  heard = 0;
  /** Publications that are gone because this reader was too slow. */
  lagged = 0;
  /** Publications that were left out as the channel's rule says. */
  skipped = 0;
  /** Breaks after which nothing, or something, was missing. */
  recovered = 0;
  lost = 0;
  /** Why it is over, once it is. */
  end = '';
  readonly #subscription: Subscription;

  constructor(subscription: Subscription) {
    this.#subscription = subscription;
    this.channel = subscription.channel;
    subscription.on('publication', () => this.heard++);
    subscription.on('lagged', ({ from, to }) => (this.lagged += Number(to - from + 1n)));
    subscription.on('skipped', ({ from, to }) => (this.skipped += Number(to - from + 1n)));
    subscription.on('break', ({ missed }) => (missed === 0n ? this.recovered++ : this.lost++));
    subscription.on('end', ({ code, reason }) => (this.end = `${reason} (${code})`));
  }

  /** Of the last publication; `undefined` until the subscription stands. */
  get offset(): bigint | undefined {
    const { position } = this.#subscription;
    return position === undefined ? undefined : parsePosition(position).offset;
  }
}
