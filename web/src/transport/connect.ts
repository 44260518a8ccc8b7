// Which transport: a race that WebTransport enters first, since a network that drops UDP leaves it pending for tens of seconds.

import { type TidingsError, toError } from '../codes.ts';
import { MEMORY, ORIGINS } from '../limits.ts';
import type { Kind } from './transport.ts';

/** One way to a session. Rejects when the signal gives it up, and closes what it opened. */
export type Attempt<T> = (signal: AbortSignal) => Promise<T>;

/**
 * Runs the attempts one after the other, each `headStart` ms after the one before, or when that failed. The first that succeeds wins and
 * the others are given up, as all are with `signal`, whose reason is then the error. What the server itself refuses is refused: no other way is tried. Rejects with the
 * error of the first attempt where all fail. `discard` gets what succeeds too late.
 */
export const race = <T>(
  attempts: Attempt<T>[],
  headStart: number,
  signal: AbortSignal,
  discard: (value: T) => void,
): Promise<T> =>
  new Promise((resolve, reject) => {
    // The winner does not listen any more.
    const others = new AbortController();
    const errors: TidingsError[] = [];
    let started = 0;
    let failed = 0;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const finish = () => {
      clearTimeout(timer);
      listening();
      others.abort();
    };
    const fail = (error: unknown) => {
      finish();
      reject(error);
    };
    const start = () => {
      clearTimeout(timer);
      const number = started;
      const attempt = attempts[number];
      if (!attempt) return;
      started++;
      timer = setTimeout(start, headStart);
      attempt(others.signal).then(
        value => {
          if (others.signal.aborted) return discard(value);
          finish();
          resolve(value);
        },
        thrown => {
          if (others.signal.aborted) return;
          const error = toError(thrown);
          errors[number] = error;
          failed++;
          if (error.code >= 0) fail(error);
          else if (failed === attempts.length) fail(errors[0]);
          else if (failed === started) start();
        },
      );
    };
    const listening = whenAborted(signal, () => fail(signal.reason));
    start();
  });

/** Calls `then` when the attempt is given up. Returns a function that takes that back. */
export function whenAborted(signal: AbortSignal, then: () => void): () => void {
  signal.addEventListener('abort', then);
  if (signal.aborted) then();
  return () => signal.removeEventListener('abort', then);
}

/** By origin, the oldest first. */
const memory = new Map<string, string>();

/** What worked with this origin lately, in this page or, where there is storage, another one. */
export function remembered(origin: string): Kind | undefined {
  const [kind, time] = (memory.get(origin) ?? stored(storage => storage.getItem(KEY + origin)))?.split(' ') ?? [];
  return Math.abs(Date.now() - Number(time)) < MEMORY ? (kind as Kind) : undefined;
}

/** Keeps in mind what worked; nothing, when it failed. */
export function remember(origin: string, kind: Kind | undefined): void {
  const value = kind ? `${kind} ${Date.now()}` : '';
  memory.delete(origin);
  memory.set(origin, value);
  if (memory.size > ORIGINS) memory.delete(memory.keys().next().value!);
  stored(storage => storage.setItem(KEY + origin, value));
}

const KEY = 'tidings:';

function stored<T>(use: (storage: Storage) => T): T | undefined {
  try {
    return use(localStorage);
  } catch {
    // There is none, or it is forbidden.
    return undefined;
  }
}
