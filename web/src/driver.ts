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
  /** User code closes the client. */
  closing: AbortSignal;
}

/** Runs until the client is closed or a code says not to come back; why it ended. */
export async function drive(driver: Driver): Promise<TidingsError> {
  const { closing, tokens, registry, line } = driver;
  let link: Link | undefined;
  let wake = () => {};
  // What the browser knows of the network, and that somebody looks again: a wait is over, a connection is asked at once.
  const stir = () => {
    wake();
    link?.ping();
  };
  const visible = () => {
    if (globalThis.document?.visibilityState === 'visible') stir();
  };
  const close = () => {
    wake();
    link?.close(new TidingsError(CLOSED, 'closed by this client'));
  };
  globalThis.addEventListener?.('online', stir);
  globalThis.addEventListener?.('offline', stir);
  globalThis.document?.addEventListener('visibilitychange', visible);
  closing.addEventListener('abort', close);
  try {
    let error: TidingsError | undefined;
    for (let attempt = 0; ; attempt++) {
      driver.connecting(attempt, error);
      if (attempt && !closing.aborted) {
        let timer: ReturnType<typeof setTimeout> | undefined;
        await new Promise<void>(resolve => {
          wake = resolve;
          timer = setTimeout(resolve, backoff(attempt));
        });
        clearTimeout(timer);
      }
      try {
        const connected = await within(driver.deadline, closing, async signal =>
          driver.connect(await tokens.next(), signal),
        );
        attempt = 0;
        const current = new Link(connected[1], registry, line);
        link = current;
        current.timed = () =>
          tokens.watch(
            token => driver.refresh(token),
            () => current.skew,
          );
        driver.connected(connected);
        error = await current.run();
      } catch (failed) {
        error = toError(failed);
      }
      link = undefined;
      tokens.stop();
      if (closing.aborted) return new TidingsError(CLOSED, 'closed by this client');
      if (!tokens.mayRetry(error.retry)) return error;
    }
  } finally {
    globalThis.removeEventListener?.('online', stir);
    globalThis.removeEventListener?.('offline', stir);
    globalThis.document?.removeEventListener('visibilitychange', visible);
  }
}

/** Gives an attempt up after `ms`, or with `closing`. */
async function within(ms: number, closing: AbortSignal, attempt: Attempt<Connected>): Promise<Connected> {
  const controller = new AbortController();
  const late = new TidingsError(LOST, `no connection within ${ms} ms`);
  const timer = setTimeout(() => controller.abort(late), ms);
  const close = () => controller.abort(new TidingsError(CLOSED, 'closed by this client'));
  closing.addEventListener('abort', close);
  try {
    // Also what does not look at the signal, such as user code that is asked for a token.
    return await race([attempt], 0, controller.signal, discard);
  } finally {
    clearTimeout(timer);
    closing.removeEventListener('abort', close);
  }
}
