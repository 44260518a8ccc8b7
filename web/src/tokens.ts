// Where tokens come from, and when the next is asked for.

import { backoff } from './backoff.ts';
import { check, TOKEN } from './check.ts';
import { LOST, type Retry, SIGNED_OUT, TidingsError, toError } from './codes.ts';
import { LITTLE, LONGEST } from './limits.ts';

/** User code's source of tokens; `null` means that nobody is signed in: the client ends, and `connect` starts it again. */
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
  /** The token for the next connection: the one at hand while it lasts, otherwise a new one. Rejects where nobody is signed in. */
  next(): Promise<string | undefined>;
  /** The server took this token, which ends at `ends`, in ms since 1970; a JWT says so itself. */
  keep(token: string | undefined, ends?: number): void;
  /**
   * From now on asks for a new token some time before the one at hand ends, and gives it to `refresh`. What fails is tried again after
   * a pause that grows. `skew` is the server's clock minus ours, of which it may hear again.
   */
  watch(skew: number): void;
  /** The server let the token at hand in, until `ends`. */
  welcomed(ends: number | undefined): void;
  /** No more: the connection is over. */
  stop(): void;
  /** The token for the next run: none where there is a source, which knows who is signed in then. */
  last(): string | undefined;
}

/** `refresh` shows a token to the server, and keeps what that took. `end` hears of an error after which there is nothing to try. */
export const newTokens = (
  current: string | undefined,
  ask: GetToken | undefined,
  refresh: (token: string) => Promise<unknown>,
  end: (error: TidingsError) => void,
): Tokens => {
  /** When the current one ends, in ms since 1970 of the server's clock. */
  let ends = expiry(current);
  let timer: ReturnType<typeof setTimeout> | undefined;
  /** One for each connection. */
  let watching: object | undefined;
  let skew = 0;
  let attempt = 0;
  /** Requests to `ask`: only the newest answer counts. */
  let asked = 0;

  const left = () => (ends ?? Infinity) - Date.now();
  const fresh = async () => {
    const mine = ++asked;
    let token: string | null;
    try {
      token = await ask!();
    } catch (error) {
      throw new TidingsError(LOST, `no token: ${toError(error).message}`);
    }
    if (mine !== asked) throw new TidingsError(LOST, 'asked again');
    if (token === null) {
      current = undefined;
      throw new TidingsError(SIGNED_OUT, 'signed out');
    }
    check('getToken', token, TOKEN);
    return token;
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
      if (watching === started) await refresh(token);
    } catch (error) {
      const { code } = toError(error);
      if (code === SIGNED_OUT) return end(error as TidingsError);
      if (watching !== started) return;
      if (code < LOST) end(error as TidingsError);
      else later(LITTLE + backoff(++attempt));
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
      if (ask) current = undefined;
      return !!ask;
    },
    async next() {
      if (ask && (current === undefined || left() < LITTLE)) keep(await fresh());
      return current;
    },
    welcomed: ends => keep(current, ends),
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
    last: () => (ask ? undefined : current),
  };
};
