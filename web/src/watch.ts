// How soon a silence is noticed. A browser sends no PING for us, and a client that only reads sends nothing: it would not hear that its
// server was killed. A busy connection that falls silent is asked at once, and again and again until it answers; any other every 10 s, or at a third of the idle timeout where
// that is sooner.

import { AGAIN, ANSWER, IDLE, STREAK } from './limits.ts';

export interface Watch {
  /** Something came. */
  heard(): void;
  /** To be called every second, or more often: whether to ask now, or that nobody is there. `idle` is the idle timeout in ms. */
  look(now: number, idle?: number): 'ask' | 'lost' | undefined;
  asked(now: number): void;
  answered(): void;
}

export const newWatch = (last: number): Watch => {
  /** What came since a look took note of some, but for answers to what this asked: they are no sign of being busy. */
  let news = 0;
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
    heard() {
      news++;
    },
    look(now, idle = Infinity) {
      if (news > 0) {
        news = 0;
        streak++;
        alive();
      } else {
        silent ||= streak >= STREAK;
        streak = 0;
      }
      if (due !== undefined && now - due > ANSWER) return 'lost';
      const pause = due !== undefined ? AGAIN : silent ? 0 : Math.min(IDLE, idle / 3);
      if (now - last < pause) return undefined;
      asked(now);
      return 'ask';
    },
    asked,
    answered() {
      news--;
      alive();
    },
  };
};
