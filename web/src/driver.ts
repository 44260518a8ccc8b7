// What a client does all its life: a connection after the other.

import { backoff } from './backoff.ts';
import { CLOSED, LOST, TidingsError, toError } from './codes.ts';
import type { Session } from './greet.ts';
import type { Link } from './link.ts';
import type { Tokens } from './tokens.ts';
import { type Attempt, race } from './transport/connect.ts';
import type { Kind } from './transport/transport.ts';

/** A session and how it came about. */
export type Connected = [kind: Kind, session: Session];

/** It came too late. */
export const discard = ([, { transport }]: Connected): void => transport.close();

export interface Driver {
  tokens: Tokens;
  /** Total time in ms for one attempt. */
  deadline: number;
  /** Attempt number `attempt` comes next; the error is why the one before failed, or the connection broke. */
  connecting(attempt: number, error: TidingsError | undefined): void;
  /** Connects and says `Hello`. */
  connect(token: string | undefined, signal: AbortSignal): Promise<Connected>;
  connected(connected: Connected): Link;
}

/** Runs until it is closed or a code says not to come back: a promise of why it ended, and how to close it. */
export function drive({
  tokens,
  deadline,
  connecting,
  connect,
  connected,
}: Driver): [over: Promise<TidingsError>, close: () => void] {
  const life = new AbortController();
  const { signal } = life;
  let closed: TidingsError | undefined;
  let link: Link | undefined;
  let attempting = new AbortController();
  let wake = () => {};
  // What the browser knows of the network, and that somebody looks again: a wait is over, a connection is asked at once.
  const stir = () => {
    if (globalThis.document?.visibilityState === 'hidden') return;
    wake();
    link?.ping();
  };
  for (const event of ['online', 'offline']) globalThis.addEventListener?.(event, stir, { signal });
  globalThis.document?.addEventListener('visibilitychange', stir, { signal });

  const run = async () => {
    let error: TidingsError | undefined;
    for (let attempt = 0; ; attempt++) {
      connecting(attempt, error);
      attempting = new AbortController();
      if (attempt && !closed) {
        let timer: ReturnType<typeof setTimeout> | undefined;
        await new Promise<void>(resolve => {
          wake = resolve;
          timer = setTimeout(resolve, backoff(attempt));
        });
        clearTimeout(timer);
      }
      if (closed) return closed;
      const late = new TidingsError(LOST, `no connection within ${deadline} ms`);
      const timer = setTimeout(() => attempting.abort(late), deadline);
      try {
        // Given up also where what is waited for does not look at the signal, such as user code that is asked for a token.
        const whole: Attempt<Connected> = async signal => connect(await tokens.next(), signal);
        const found = await race([whole], deadline, attempting.signal, discard);
        clearTimeout(timer);
        attempt = 0;
        link = connected(found);
        if (closed) link.close(closed);
        error = await link.over;
      } catch (failed) {
        error = toError(failed);
      }
      clearTimeout(timer);
      link = undefined;
      tokens.stop();
      if (closed) return closed;
      if (!tokens.mayRetry(error.retry)) return error;
    }
  };

  const close = () => {
    closed = new TidingsError(CLOSED, 'closed by this client');
    wake();
    attempting.abort(closed);
    link?.close(closed);
  };
  return [run().finally(() => life.abort()), close];
}
