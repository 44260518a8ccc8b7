// What a client does all its life: a connection after the other.

import { backoff } from './backoff.ts';
import { CLOSED, LOST, TidingsError } from './codes.ts';
import type { Session } from './greet.ts';
import type { Line } from './line.ts';
import { Link } from './link.ts';
import type { Registry } from './registry.ts';
import type { Tokens } from './tokens.ts';
import { type Attempt, race, toError } from './transport/connect.ts';
import type { Kind } from './transport/transport.ts';

/** A session and how it came about. */
export type Connected = [kind: Kind, session: Session];

/** It came too late. */
export const discard = ([, { transport }]: Connected): void => transport.close();

export interface Driver {
  registry: Registry;
  line: Line;
  tokens: Tokens;
  /** Total time in ms for one attempt. */
  deadline: number;
  /** Connects and says `Hello`. */
  connect(token: string | undefined, signal: AbortSignal): Promise<Connected>;
  /** Attempt number `attempt` comes next; the error is why the one before failed, or the connection broke. */
  connecting(attempt: number, error: TidingsError | undefined): void;
  connected(connected: Connected): void;
  refresh(token: string): Promise<unknown>;
}

/** Runs until it is closed or a code says not to come back: a promise of why it ended, and how to close it. */
export function drive(driver: Driver): [over: Promise<TidingsError>, close: () => void] {
  const { tokens, registry, line } = driver;
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
      driver.connecting(attempt, error);
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
      const late = new TidingsError(LOST, `no connection within ${driver.deadline} ms`);
      const timer = setTimeout(() => attempting.abort(late), driver.deadline);
      try {
        // Given up also where what is waited for does not look at the signal, such as user code that is asked for a token.
        const connect: Attempt<Connected> = async signal => driver.connect(await tokens.next(), signal);
        const connected = await race([connect], driver.deadline, attempting.signal, discard);
        clearTimeout(timer);
        attempt = 0;
        const current = new Link(connected[1], registry, line);
        link = current;
        current.timed = () => tokens.watch(driver.refresh, () => current.skew);
        driver.connected(connected);
        error = await current.run();
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
