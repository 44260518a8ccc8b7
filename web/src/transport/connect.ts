// Which transport: a race that WebTransport enters first, since a network that drops UDP leaves it pending for tens of seconds.

import { LOST, TidingsError } from '../codes.ts';
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
    let started = 0;
    let failed = 0;
    let first: TidingsError | undefined;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const finish = () => {
      clearTimeout(timer);
      signal.removeEventListener('abort', abort);
      others.abort();
    };
    const abort = () => {
      finish();
      reject(signal.reason);
    };
    const start = () => {
      clearTimeout(timer);
      const leads = !started;
      const attempt = attempts[started];
      if (!attempt) return;
      started++;
      timer = setTimeout(start, headStart);
      attempt(others.signal).then(
        value => {
          if (others.signal.aborted) {
            discard(value);
          } else {
            finish();
            resolve(value);
          }
        },
        thrown => {
          if (others.signal.aborted) return;
          const error = toError(thrown);
          if (leads || !first) first = error;
          failed++;
          if (error.code >= 0 || failed === attempts.length) {
            finish();
            reject(error.code < 0 ? first : error);
          } else if (failed === started) {
            start();
          }
        },
      );
    };
    signal.addEventListener('abort', abort);
    start();
  });

/** Whatever was thrown, as an error of ours. */
export const toError = (error: unknown): TidingsError =>
  error instanceof TidingsError
    ? error
    : new TidingsError(LOST, String((error as Error | undefined)?.message ?? error));

/** How long what worked is tried first, in ms. */
const MEMORY = 600_000;
/** Most origins that are kept in mind. */
const ORIGINS = 16;
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
