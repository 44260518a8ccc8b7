// The line in which requests of user code wait for the connection, and for their answers.

import { CLOSED, OVERLOADED, TidingsError } from './codes.ts';
import { REQUEST_BYTES, REQUESTS } from './limits.ts';
import type { Frame, FrameOf, PUBLICATION, Request } from './wire/frames.ts';

type Publications = FrameOf<typeof PUBLICATION>[];

/** Hears the answer to a request, with the publications of a page of history; or why there is none. */
export type Done = (answer: Frame | TidingsError, publications?: Publications) => void;
/** The type of the answer to a request, the request, and who hears what becomes of it. */
export type Call = [type: Frame['type'], frame: Request, done: Done];

/**
 * Asks the server, now or when there is a connection again; `size` is the bytes that it keeps, about. Rejects with the server's code,
 * with `LOST` where the connection broke before the answer came, with `OVERLOADED` where too many wait already.
 */
export type Ask = <T extends Frame['type']>(
  type: T,
  frame: Request,
  size?: number,
) => Promise<[FrameOf<T>, Publications]>;

export interface Line {
  /** There is a new one. */
  arrived(): void;
  ask: Ask;
  /** The first that waits. */
  take(): Call | undefined;
  /** Nobody will come for them any more. */
  end(error: TidingsError): void;
}

export const newLine = (): Line => {
  const calls: Call[] = [];
  /** Requests and bytes that wait here or for an answer. */
  let count = 0;
  let bytes = 0;
  let closed: TidingsError | undefined;
  const line: Line = {
    arrived() {},
    ask: (type, frame, size = 0) =>
      new Promise((resolve, reject) => {
        if (closed) throw closed;
        if (count >= REQUESTS || bytes + size > REQUEST_BYTES) {
          throw new TidingsError(OVERLOADED, 'too many requests');
        }
        count++;
        bytes += size;
        const done: Done = (answer, publications = []) => {
          count--;
          bytes -= size;
          if (answer instanceof TidingsError) reject(answer);
          else resolve([answer as never, publications]);
        };
        calls.push([type, frame, done]);
        line.arrived();
      }),
    take: () => calls.shift(),
    end(error) {
      closed = error.code < 0 ? error : new TidingsError(CLOSED, error.message);
      for (const [, , done] of calls.splice(0)) done(closed);
    },
  };
  return line;
};
