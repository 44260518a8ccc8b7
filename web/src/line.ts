// The line in which requests of user code wait for the connection, and for their answers.

import { CLOSED, OVERLOADED, PROTOCOL_VIOLATION, TidingsError } from './codes.ts';
import type { Frame, FrameOf, PUBLICATION } from './wire/frames.ts';

/** Most requests that wait, and most bytes of theirs. */
const REQUESTS = 16_384;
const BYTES = 16 << 20;

/** A request: it is written when there is a connection with room. */
export interface Call {
  /** The frame, once it has its number. */
  make(request: bigint): Frame;
  /** Bytes that it keeps, about. */
  size: number;
  /** The answer, with the publications of a page of history; or why there is none. */
  done(answer: Frame | TidingsError, publications?: FrameOf<typeof PUBLICATION>[]): void;
}

export class Line {
  /** There is a new one. */
  arrived: () => void = () => {};
  #calls: Call[] = [];
  /** Requests and bytes that wait here or for an answer. */
  #count = 0;
  #bytes = 0;
  #closed: TidingsError | undefined;

  /**
   * Asks the server, now or when there is a connection again. Rejects with the server's code, with `LOST` where the connection broke
   * before the answer came, with `OVERLOADED` where too many wait already.
   */
  async ask<T extends Frame['type']>(
    types: T[],
    make: Call['make'],
    size = 0,
  ): Promise<[FrameOf<T>, FrameOf<typeof PUBLICATION>[]]> {
    if (this.#closed) throw this.#closed;
    if (this.#count >= REQUESTS || this.#bytes + size > BYTES) {
      throw new TidingsError(OVERLOADED, 'too many requests wait for the server');
    }
    this.#count++;
    this.#bytes += size;
    try {
      return await new Promise((resolve, reject) => {
        const done: Call['done'] = (answer, publications = []) => {
          if (answer instanceof TidingsError) reject(answer);
          else if (types.includes(answer.type as T)) resolve([answer as never, publications]);
          else reject(new TidingsError(PROTOCOL_VIOLATION, 'an answer to another request'));
        };
        this.#calls.push({ make, size, done });
        this.arrived();
      });
    } finally {
      this.#count--;
      this.#bytes -= size;
    }
  }

  /** The first that waits. */
  take(): Call | undefined {
    return this.#calls.shift();
  }

  /** Nobody will come for them any more. */
  close(error: TidingsError): void {
    this.#closed = new TidingsError(CLOSED, `the client is over: ${error.message}`);
    for (const call of this.#calls.splice(0)) call.done(this.#closed);
  }
}
