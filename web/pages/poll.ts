// Asks again and again: every second, not while nobody looks at the page, and less and less often while it fails.

/** Time in ms between two answers. */
const EVERY = 1_000;
/** Longest pause in ms after a failure. */
const LONGEST = 30_000;

/** Calls `ask` until the signal. `failed` is told why an answer did not come, and in how many ms the next is asked for. */
export async function poll(
  ask: () => Promise<void>,
  failed: (error: Error, wait: number) => void,
  signal: AbortSignal,
): Promise<void> {
  let failures = 0;
  while (!signal.aborted) {
    await seen(signal);
    if (signal.aborted) return;
    try {
      await ask();
      failures = 0;
    } catch (error) {
      failures++;
      failed(error as Error, pause(failures));
    }
    if (!signal.aborted) await sleep(pause(failures), signal);
  }
}

const pause = (failures: number): number => Math.min(LONGEST, EVERY * 2 ** failures);

function seen(signal: AbortSignal): Promise<void> {
  if (!document.hidden) return Promise.resolve();
  return new Promise(resolve => {
    const look = () => {
      if (document.hidden && !signal.aborted) return;
      document.removeEventListener('visibilitychange', look);
      signal.removeEventListener('abort', look);
      resolve();
    };
    document.addEventListener('visibilitychange', look);
    signal.addEventListener('abort', look);
  });
}

function sleep(time: number, signal: AbortSignal): Promise<void> {
  return new Promise(resolve => {
    const over = () => {
      clearTimeout(timer);
      signal.removeEventListener('abort', over);
      resolve();
    };
    const timer = setTimeout(over, time);
    signal.addEventListener('abort', over);
  });
}
