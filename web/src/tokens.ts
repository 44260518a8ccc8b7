// Where tokens come from, and when the next is asked for.

import { backoff } from './backoff.ts';
import { LOST, type Retry, TidingsError } from './codes.ts';

/** User code's source of tokens; `null` for none. */
export type GetToken = () => Promise<string | null> | string | null;

/** Most that `setTimeout` takes. */
const LONGEST = 2 ** 31 - 1;
/** A token is not taken that ends sooner than this, in ms, and none is replaced sooner. */
const LITTLE = 1_000;

/** Time in ms since 1970 at which a JWT ends; `undefined` for a token that does not say. */
export function expiry(token: string): number | undefined {
  try {
    const { exp } = JSON.parse(atob(token.split('.')[1]!.replace(/-/g, '+').replace(/_/g, '/')));
    return Number.isFinite(exp) ? exp * 1000 : undefined;
  } catch {
    return undefined;
  }
}

/** Wait in ms before a token that has `left` ms to live is replaced: all but a fifth of that, a minute at most. */
export const wait = (left: number): number => Math.min(LONGEST, Math.max(LITTLE, left - Math.min(left / 5, 60_000)));

export class Tokens {
  readonly #ask: GetToken | undefined;
  #current: string | undefined;
  /** When the current one ends, in ms since 1970 of the server's clock. */
  #ends: number | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #refresh: ((token: string) => Promise<unknown>) | undefined;
  #skew: () => number = () => 0;
  #attempt = 0;

  constructor(token: string | undefined, ask: GetToken | undefined) {
    this.#ask = ask;
    if (token !== undefined) this.keep(token);
  }

  /** Whether to try again after an error that says this. */
  mayRetry(retry: Retry): boolean {
    if (retry !== 'credentials') return retry === 'backoff';
    this.#current = undefined;
    return this.#ask !== undefined;
  }

  /** The token for the next connection: the one at hand while it lasts, otherwise a new one. */
  async next(): Promise<string | undefined> {
    const left = (this.#ends ?? Number.POSITIVE_INFINITY) - Date.now();
    if (this.#ask && (this.#current === undefined || left < LITTLE)) {
      const token = await this.#fresh();
      this.#current = undefined;
      if (token !== undefined) this.keep(token);
    }
    return this.#current;
  }

  /** The server took this token, which ends at `ends`, in ms since 1970; a JWT says so itself. */
  keep(token: string, ends: number | undefined = expiry(token)): void {
    this.#current = token;
    this.#ends = ends;
    this.#attempt = 0;
    this.#plan();
  }

  /**
   * From now on asks for a new token some time before the one at hand ends, and gives it to `refresh`, which keeps what the server took.
   * What fails is tried again after a pause that grows. `skew` is the server's clock minus ours.
   */
  watch(refresh: (token: string) => Promise<unknown>, skew: () => number): void {
    if (!this.#ask) return;
    this.#refresh = refresh;
    this.#skew = skew;
    this.#plan();
  }

  /** No more: the connection is over. */
  stop(): void {
    clearTimeout(this.#timer);
    this.#refresh = undefined;
  }

  #plan(): void {
    if (this.#refresh && this.#ends !== undefined) this.#later(wait(this.#left(this.#ends)));
  }

  #left(ends: number): number {
    return ends - Date.now() - this.#skew();
  }

  #later(ms: number): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#renew(), ms);
  }

  async #renew(): Promise<void> {
    const refresh = this.#refresh;
    // The wait was longer than a timer takes.
    if (this.#ends !== undefined && this.#left(this.#ends) > LONGEST) return this.#plan();
    try {
      const token = await this.#fresh();
      if (token !== undefined && refresh === this.#refresh) await refresh?.(token);
    } catch {
      if (refresh && refresh === this.#refresh) this.#later(LITTLE + backoff(++this.#attempt));
    }
  }

  async #fresh(): Promise<string | undefined> {
    try {
      return (await this.#ask?.()) ?? undefined;
    } catch (error) {
      throw new TidingsError(LOST, `no token: ${(error as Error | undefined)?.message ?? error}`);
    }
  }
}
