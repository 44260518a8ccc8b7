// How soon a silence is noticed. A browser sends no PING for us, and a client that only reads sends nothing: it would not hear that its
// server was killed. A busy connection that falls silent is asked at once, and again and again until it answers; any other every 10 s.

/** Longest time in ms that nothing is asked (PROTOCOL §2: 20 s). */
const IDLE = 10_000;
/** How often one that does not answer is asked: QUIC itself repeats what is lost after ever longer pauses. */
const AGAIN = 2_000;
/** How long an answer may take, when nothing else is heard either. */
const ANSWER = 5_000;
/** A connection is busy that had something for so many looks, a second apart, one after the other. */
const STREAK = 3;

export class Watch {
  #heard = 0;
  /** Answers to what this asked: they are no sign of being busy. */
  #answers = 0;
  #streak = 0;
  /** It was busy, fell silent, and has not answered. */
  #silent = false;
  #last: number;
  /** Since when an answer is due. */
  #due: number | undefined;

  constructor(now: number) {
    this.#last = now;
  }

  /** To be called every second with the number of chunks that were heard: whether to ask now, or that nobody is there. */
  look(now: number, heard: number): 'ask' | 'lost' | undefined {
    const said = heard - this.#answers;
    if (said > this.#heard) {
      this.#heard = said;
      this.#streak++;
      this.#silent = false;
      this.#due = undefined;
    } else {
      this.#silent ||= this.#streak >= STREAK;
      this.#streak = 0;
    }
    if (this.#due !== undefined && now - this.#due > ANSWER) return 'lost';
    const since = now - this.#last;
    const ask = since >= (this.#due === undefined ? IDLE : AGAIN) || (this.#silent && this.#due === undefined);
    if (ask) this.asked(now);
    return ask ? 'ask' : undefined;
  }

  asked(now: number): void {
    this.#last = now;
    this.#due ??= now;
  }

  answered(): void {
    this.#answers++;
    this.#silent = false;
    this.#due = undefined;
  }
}
