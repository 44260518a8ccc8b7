// What a client does all its life: a connection after the other.

import { backoff } from './backoff.ts';
import { LOST, TidingsError, toError } from './codes.ts';
import type { Session } from './greet.ts';
import type { Link } from './link.ts';
import type { Tokens } from './tokens.ts';
import type { Kind } from './transport/transport.ts';

/** A session and how it came about. */
export type Connected = [kind: Kind, session: Session];

/**
 * Runs until it is closed or a code says not to come back: a promise of why it ended, and how to close it. `connecting` hears that
 * attempt number `attempt` comes next, and why the one before failed or the connection broke. `connect` also says `Hello`; it rejects
 * with the signal's reason when that gives it up.
 */
export const drive = (
  tokens: Tokens,
  connecting: (attempt: number, error: TidingsError | undefined) => void,
  connect: (signal: AbortSignal) => Promise<Connected>,
  connected: (connected: Connected) => Link,
): [over: Promise<TidingsError>, close: (error: TidingsError) => void] => {
  const life = new AbortController();
  const { signal } = life;
  let attempting = life;
  let link: Link | undefined;
  let timer: ReturnType<typeof setTimeout> | undefined;
  let wake = () => {};
  /** The page was left, and may be in the browser's back/forward cache: no attempt until it is shown again. */
  let left = false;
  /** Ends the connection or the attempt. */
  const interrupt = (error: TidingsError) => {
    attempting.abort(error);
    link?.end(error);
  };
  // What the browser knows of the network, and that somebody looks again: a wait is over, a connection is asked at once.
  const stir = ({ type }: Event) => {
    if (type === 'pagehide') {
      left = true;
      clearTimeout(timer);
      interrupt(new TidingsError(LOST, 'the page was left'));
    }
    if (type === 'pageshow') {
      left = false;
      // Also in a hidden tab: no timer runs.
      wake();
    }
    if (left || globalThis.document?.hidden) return;
    wake();
    link?.ping();
  };
  for (const event of ['online', 'offline', 'visibilitychange', 'pagehide', 'pageshow']) {
    globalThis.addEventListener?.(event, stir, { signal });
  }

  const run = async () => {
    let error: TidingsError | undefined;
    for (let attempt = 0; ; attempt++) {
      // After whoever started it has returned.
      await undefined;
      if (signal.aborted) return signal.reason;
      connecting(attempt, error);
      if (attempt) {
        await new Promise<void>(resolve => {
          wake = resolve;
          if (!left) timer = setTimeout(resolve, backoff(attempt));
        });
        clearTimeout(timer);
      }
      try {
        attempting = new AbortController();
        if (signal.aborted) throw signal.reason;
        const found = await connect(attempting.signal);
        attempt = 0;
        link = connected(found);
        if (attempting.signal.aborted) link.end(attempting.signal.reason);
        error = await link.over;
      } catch (failed) {
        error = toError(failed);
      }
      link = undefined;
      tokens.stop();
      // Being closed is an error that says not to.
      if (signal.aborted || !tokens.mayRetry(error.retry)) return error;
    }
  };

  const close = (error: TidingsError) => {
    life.abort(error);
    wake();
    interrupt(error);
  };
  return [run().finally(() => life.abort()), close];
};
