// Which transport: a race that WebTransport enters first, since a network that drops UDP leaves it pending for tens of seconds.

import { LOST, TidingsError, toError } from '../codes.ts';
import { MEMORY, ORIGINS } from '../limits.ts';
import type { Kind } from './transport.ts';

/** One way to a session. When the signal gives it up, which it never does once it has won, it rejects and closes what it opened. */
export type Attempt<T> = (signal: AbortSignal) => Promise<T>;

/**
 * Runs the attempts, once there are some, one after the other, each `headStart` ms after the one before, or when that failed. The first
 * that succeeds wins and the others are given up, as all are after `deadline` ms, and with `signal`, whose reason is then the error. What
 * the server itself refuses is refused: no other way is tried. Rejects with the error of the first attempt where all fail. `discard`
 * gets what succeeds too late.
 */
export const race = <T>(
  ways: () => Promise<Attempt<T>[]>,
  headStart: number,
  deadline: number,
  signal: AbortSignal,
  discard: (value: T) => void,
): Promise<T> =>
  new Promise((resolve, reject) => {
    const others = new Set<AbortController>();
    const errors: TidingsError[] = [];
    let attempts: Attempt<T>[] = [];
    let failed = 0;
    let over = false;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const finish = () => {
      over = true;
      clearTimeout(timer);
      clearTimeout(late);
      for (const other of others) other.abort();
    };
    const fail = (error: unknown) => {
      finish();
      reject(error);
    };
    const late = setTimeout(() => fail(new TidingsError(LOST, 'no connection in time')), deadline);
    const start = () => {
      clearTimeout(timer);
      const number = others.size;
      const attempt = attempts[number];
      if (over || !attempt) return;
      const mine = new AbortController();
      others.add(mine);
      timer = setTimeout(start, headStart);
      attempt(mine.signal).then(
        value => {
          if (over) return discard(value);
          others.delete(mine);
          finish();
          resolve(value);
        },
        thrown => {
          const error = toError(thrown);
          errors[number] = error;
          failed++;
          if (error.code !== LOST) fail(error);
          else if (failed === attempts.length) fail(errors[0]);
          else if (failed === others.size) start();
        },
      );
    };
    signal.addEventListener('abort', () => fail(signal.reason));
    ways().then(found => {
      attempts = found;
      start();
    }, fail);
  });

/** By origin. */
const memory = new Map<string, string>();

/** What worked with this origin lately, in this page or, where there is storage, another one. */
export const remembered = (origin: string): Kind | undefined => {
  const [kind, time] = (memory.get(origin) ?? stored(storage => storage.getItem(KEY + origin)))?.split(' ') ?? [];
  return Math.abs(Date.now() - Number(time)) < MEMORY ? (kind as Kind) : undefined;
};

/** Keeps in mind what worked; nothing, when it failed. */
export const remember = (origin: string, kind: Kind | undefined): void => {
  const value = kind ? `${kind} ${Date.now()}` : '';
  memory.set(origin, value);
  if (memory.size > ORIGINS) memory.delete(memory.keys().next().value!);
  stored(storage => storage.setItem(KEY + origin, value));
};

const KEY = 'tidings:';

const stored = <T>(use: (storage: Storage) => T): T | undefined => {
  try {
    return use(localStorage);
  } catch {
    // There is none, or it is forbidden.
    return undefined;
  }
};
