// How soon a silence is noticed. A browser sends no PING for us, and a client that only reads sends nothing: it would not hear that its
// server was killed. A busy connection that falls silent is asked at once, and again and again until it answers; any other every 10 s.

import { AGAIN, ANSWER, IDLE, STREAK } from './limits.ts';

export interface Watch {
  /** To be called every second with the number of chunks that were heard: whether to ask now, or that nobody is there. */
  look(now: number, heard: number): 'ask' | 'lost' | undefined;
  asked(now: number): void;
  answered(): void;
}

export function newWatch(last: number): Watch {
  let known = 0;
  /** Answers to what this asked: they are no sign of being busy. */
  let answers = 0;
  let streak = 0;
  /** It was busy, fell silent, and has not answered. */
  let silent = false;
  /** Since when an answer is due. */
  let due: number | undefined;
  const asked = (now: number) => {
    last = now;
    due ??= now;
  };
  /** There is somebody. */
  const alive = () => {
    silent = false;
    due = undefined;
  };
  return {
    look(now, heard) {
      const said = heard - answers;
      if (said > known) {
        known = said;
        streak++;
        alive();
      } else {
        silent ||= streak >= STREAK;
        streak = 0;
      }
      if (due === undefined) {
        if (!silent && now - last < IDLE) return undefined;
      } else {
        if (now - due > ANSWER) return 'lost';
        if (now - last < AGAIN) return undefined;
      }
      asked(now);
      return 'ask';
    },
    asked,
    answered() {
      answers++;
      alive();
    },
  };
}
