// Where tokens come from, and when the next is asked for.

import { backoff } from './backoff.ts';
import { LOST, type Retry, TidingsError, toError } from './codes.ts';
import { LITTLE, LONGEST } from './limits.ts';

/** User code's source of tokens; `null` for none. */
export type GetToken = () => Promise<string | null> | string | null;

/** Time in ms since 1970 at which a JWT ends; `undefined` for a token that does not say, and for none. */
export const expiry = (token: string | undefined): number | undefined => {
  try {
    const { exp } = JSON.parse(atob(token!.split('.')[1]!.replace(/-/g, '+').replace(/_/g, '/')));
    return Number.isFinite(exp) ? exp * 1000 : undefined;
  } catch {
    return undefined;
  }
};

/** Wait in ms before a token that has `left` ms to live is replaced: all but a fifth of that, a minute at most. */
export const wait = (left: number): number => Math.min(LONGEST, Math.max(LITTLE, left - Math.min(left / 5, 60_000)));

export interface Tokens {
  /** Whether to try again after an error that says this. */
  mayRetry(retry: Retry): boolean;
  /** The token for the next connection: the one at hand while it lasts, otherwise a new one. */
  next(): Promise<string | undefined>;
  /** The server took this token, which ends at `ends`, in ms since 1970; a JWT says so itself. */
  keep(token: string, ends?: number): void;
  /**
   * From now on asks for a new token some time before the one at hand ends, and gives it to `refresh`. What fails is tried again after
   * a pause that grows. `skew` is the server's clock minus ours, of which it may hear again.
   */
  watch(skew: number): void;
  /** No more: the connection is over. */
  stop(): void;
}

/** `refresh` shows a token to the server, and keeps what that took. */
export const newTokens = (
  current: string | undefined,
  ask: GetToken | undefined,
  refresh: (token: string) => Promise<unknown>,
): Tokens => {
  /** When the current one ends, in ms since 1970 of the server's clock. */
  let ends = expiry(current);
  let timer: ReturnType<typeof setTimeout> | undefined;
  /** One for each connection. */
  let watching: object | undefined;
  let skew = 0;
  let attempt = 0;

  const left = () => (ends ?? Infinity) - Date.now();
  const fresh = async () => {
    try {
      return (await ask?.()) ?? undefined;
    } catch (error) {
      throw new TidingsError(LOST, `no token: ${toError(error).message}`);
    }
  };
  const later = (ms: number) => {
    clearTimeout(timer);
    timer = setTimeout(renew, ms);
  };
  const plan = () => {
    if (watching) later(wait(left() - skew));
  };
  const renew = async () => {
    const started = watching;
    // The wait was longer than a timer takes.
    if (left() - skew > LONGEST) return plan();
    try {
      const token = await fresh();
      if (token !== undefined && watching === started) await refresh(token);
    } catch {
      if (watching === started) later(LITTLE + backoff(++attempt));
    }
  };
  const keep: Tokens['keep'] = (token, until = expiry(token)) => {
    current = token;
    ends = until;
    attempt = 0;
    plan();
  };

  return {
    keep,
    mayRetry(retry) {
      if (retry !== 'credentials') return retry === 'backoff';
      current = undefined;
      return ask !== undefined;
    },
    async next() {
      if (ask && (current === undefined || left() < LITTLE)) {
        const token = await fresh();
        current = undefined;
        if (token !== undefined) keep(token);
      }
      return current;
    },
    watch(clock) {
      skew = clock;
      if (!ask || watching) return;
      watching = {};
      plan();
    },
    stop() {
      clearTimeout(timer);
      watching = undefined;
    },
  };
};
