// The line in which requests of user code wait for the connection, and for their answers.

import { CLOSED, OVERLOADED, PROTOCOL_VIOLATION, TidingsError } from './codes.ts';
import { REQUEST_BYTES, REQUESTS } from './limits.ts';
import type { Frame, FrameOf, PUBLICATION, Request } from './wire/frames.ts';

type Publications = FrameOf<typeof PUBLICATION>[];

/** Hears the answer to a request, with the publications of a page of history; or why there is none. */
export type Done = (answer: Frame | TidingsError, publications: Publications) => void;
/** A request, who hears what becomes of it, and who hears that it is about to be writes. */
export type Call = [frame: Request, done: Done, writes?: (() => void) | undefined];

export interface Line {
  /** There is a new one. */
  arrived(): void;
  /**
   * Asks the server, now or when there is a connection again; `size` is the bytes that it keeps, about. Rejects with the server's code,
   * with `LOST` where the connection broke before the answer came, with `OVERLOADED` where too many wait already.
   */
  ask<T extends Frame['type']>(
    type: T,
    frame: Request,
    size?: number,
    writes?: () => void,
  ): Promise<[FrameOf<T>, Publications]>;
  /** The first that waits. */
  take(): Call | undefined;
  /** Nobody will come for them any more. */
  close(error: TidingsError): void;
}

export function newLine(): Line {
  const calls: Call[] = [];
  /** Requests and bytes that wait here or for an answer. */
  let count = 0;
  let bytes = 0;
  let closed: TidingsError | undefined;
  const line: Line = {
    arrived() {},
    async ask(type, frame, size = 0, writes) {
      if (closed) throw closed;
      if (count >= REQUESTS || bytes + size > REQUEST_BYTES) {
        throw new TidingsError(OVERLOADED, 'too many requests wait for the server');
      }
      count++;
      bytes += size;
      try {
        return await new Promise((resolve, reject) => {
          const done: Done = (answer, publications) => {
            if (answer instanceof TidingsError) reject(answer);
            else if (answer.type === type) resolve([answer as never, publications]);
            else reject(new TidingsError(PROTOCOL_VIOLATION, 'an answer to another request'));
          };
          calls.push([frame, done, writes]);
          line.arrived();
        });
      } finally {
        count--;
        bytes -= size;
      }
    },
    take: () => calls.shift(),
    close(error) {
      closed = new TidingsError(CLOSED, `the client is over: ${error.message}`);
      for (const [, done] of calls.splice(0)) done(closed, []);
    },
  };
  return line;
}
