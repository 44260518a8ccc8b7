// Which transport: a race that WebTransport enters first, since a network that drops UDP leaves it pending for tens of seconds.

import { LOST, TidingsError } from '../codes.ts';
import type { Kind } from './transport.ts';

/** One way to a session. Rejects when the signal gives it up, and closes what it opened. */
export type Attempt<T> = (signal: AbortSignal) => Promise<T>;

/**
 * Runs the attempts one after the other, each `headStart` ms after the one before, or when that failed. The first that succeeds wins and
 * the others are given up, as all are with `signal`. What the server itself refuses is refused: no other way is tried. Rejects with the
 * error of the first attempt where all fail. `discard` gets what succeeds too late.
 */
export function race<T>(
  attempts: Attempt<T>[],
  headStart: number,
  signal: AbortSignal,
  discard: (value: T) => void,
): Promise<T> {
  return new Promise((resolve, reject) => {
    const controllers: AbortController[] = [];
    const errors: TidingsError[] = [];
    let timer: ReturnType<typeof setTimeout> | undefined;
    let over = false;
    const finish = (winner?: AbortController) => {
      over = true;
      clearTimeout(timer);
      signal.removeEventListener('abort', abort);
      for (const controller of controllers) if (controller !== winner) controller.abort(signal.reason);
    };
    const abort = () => {
      finish();
      reject(toError(signal.reason));
    };
    const start = () => {
      clearTimeout(timer);
      const index = controllers.length;
      const attempt = attempts[index];
      if (over || !attempt) return;
      const controller = new AbortController();
      controllers.push(controller);
      timer = setTimeout(start, headStart);
      attempt(controller.signal).then(
        value => {
          if (over) {
            discard(value);
            return;
          }
          finish(controller);
          resolve(value);
        },
        error => {
          if (over) return;
          errors[index] = toError(error);
          const failed = Object.keys(errors).length;
          if (errors[index].code < 0 && failed < attempts.length) {
            if (failed === controllers.length) start();
            return;
          }
          finish();
          reject(errors[index].code < 0 ? errors[0] : errors[index]);
        },
      );
    };
    signal.addEventListener('abort', abort);
    if (signal.aborted) abort();
    else start();
  });
}

/** Whatever was thrown, as an error of ours. */
export const toError = (error: unknown): TidingsError =>
  error instanceof TidingsError
    ? error
    : new TidingsError(LOST, String((error as Error | undefined)?.message ?? error));

/** How long what worked is tried first, in ms. */
const MEMORY = 10 * 60_000;
/** Most origins that are kept in mind. */
const ORIGINS = 16;
const memory = new Map<string, string>();
const entry = (origin: string) => `tidings:${origin}`;

/** What worked with this origin lately, in this page or, where there is storage, another one. */
export function remembered(origin: string): Kind | undefined {
  let stored = memory.get(origin);
  try {
    stored ??= globalThis.localStorage?.getItem(entry(origin)) ?? undefined;
  } catch {
    // Storage may be forbidden.
  }
  const [kind, time] = stored?.split(' ') ?? [];
  const age = Date.now() - Number(time);
  return age >= 0 && age < MEMORY ? (kind as Kind) : undefined;
}

/** Keeps in mind what worked; nothing, when it failed. */
export function remember(origin: string, kind: Kind | undefined): void {
  const value = kind && `${kind} ${Date.now()}`;
  memory.delete(origin);
  if (value) memory.set(origin, value);
  if (memory.size > ORIGINS) memory.delete(memory.keys().next().value!);
  try {
    if (value) globalThis.localStorage?.setItem(entry(origin), value);
    else globalThis.localStorage?.removeItem(entry(origin));
  } catch {
    // As above.
  }
}
