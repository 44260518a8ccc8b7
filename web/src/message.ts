// What applications send and receive (PROTOCOL §3.4).

import { BYTES, COUNT, check, FILLED, invalid, TEXT, tag } from './check.ts';
import { RESERVED_MESSAGE } from './codes.ts';
import { utf8 } from './wire/codec.ts';
import type { WireMessage } from './wire/frames.ts';

/** A line for one user, or for everybody. */
export interface Line {
  kind: 'notification' | 'announcement';
  text: string;
  /** When its author wrote it, in ms since 1970. */
  timestamp: number;
}

/** A session in a channel. */
export interface Member {
  /** The session: 16 hexadecimal digits. */
  id: string;
  /** Who it is; absent for a session without a user, and where the channel's rule hides it. */
  user?: string;
}

/** Who came and went, in a channel with presence (PROTOCOL §4.15). */
export interface Presence {
  kind: 'presence';
  joined: Member[];
  left: Member[];
  /** Sessions in the channel after it, exact. */
  connections: number;
  /** Different users among them, exact. */
  users: number;
  /** Whether `joined` and `left` are all. */
  complete: boolean;
}

/** Anything else: opaque to the server. */
export class Data {
  readonly kind = 'data';
  /** A media type. */
  declare readonly contentType: string;
  declare readonly bytes: Uint8Array;

  constructor(contentType: string, bytes: Uint8Array) {
    this.contentType = contentType;
    this.bytes = bytes;
  }

  /** For `JSON.stringify`: the bytes in base64. */
  toJSON(): object {
    const { kind, contentType, bytes } = this;
    return { kind, contentType, base64: btoa(Array.from(bytes, byte => String.fromCharCode(byte)).join('')) };
  }

  /** The bytes as UTF-8; what is none becomes U+FFFD. */
  text(): string {
    return new TextDecoder().decode(this.bytes);
  }

  /** The bytes as JSON. Throws a `SyntaxError` where they are none. */
  json<T = unknown>(): T {
    return JSON.parse(this.text()) as T;
  }
}

/** What is received; `kind` tells which. */
export type Message = Line | Data | Presence;

/** What can be published: a string goes as `text/plain`, bytes as `application/octet-stream`, other values with {@link json}. */
export type Publishable =
  | string
  | Uint8Array
  | { kind: 'data'; contentType: string; bytes: Uint8Array }
  | (Omit<Line, 'timestamp'> & { timestamp?: number });

/** A value as JSON, to publish. Throws a `TidingsError` for what JSON cannot say: `undefined`, a function, a bigint, a cycle. */
export const json = (value: unknown): Data => {
  let text: string | undefined;
  let reason = '';
  try {
    text = JSON.stringify(value);
  } catch (error) {
    reason = ` (${(error as Error)?.message})`;
  }
  if (text === undefined) throw invalid('json', value, `a value that JSON can say${reason}`);
  return new Data('application/json', utf8.encode(text));
};

export const fromWire = (message: WireMessage): Message =>
  message.kind === 'data' ? new Data(message.contentType, message.bytes) : message;

/** The message as it travels, and its size as PROTOCOL §3.4 counts it. Throws a `TidingsError` where it is none. */
export const toWire = (message: Publishable): [WireMessage, size: number] => {
  if (typeof message === 'string') {
    check('message', message, TEXT);
    message = new Data('text/plain; charset=utf-8', utf8.encode(message));
  }
  if (BYTES[0](message as never)) message = new Data('application/octet-stream', message as Uint8Array);
  const {
    kind,
    contentType,
    bytes,
    text,
    timestamp = Date.now(),
  } = (message ?? {}) as Partial<Omit<Data, 'kind'> & Omit<Line, 'kind'> & Pick<Message, 'kind'>>;
  if (kind === 'data') {
    check('contentType', contentType, FILLED);
    check('bytes', bytes, BYTES);
    return [message as Data, utf8.encode(contentType).length + bytes!.length];
  }
  if (kind === 'notification' || kind === 'announcement') {
    check('text', text, TEXT);
    check('timestamp', timestamp, COUNT);
    return [{ kind, text: text!, timestamp }, utf8.encode(text).length];
  }
  if (kind === 'presence') throw invalid('message', kind, 'a kind that clients publish', RESERVED_MESSAGE);
  throw invalid(
    'message',
    message,
    ArrayBuffer.isView(message) || /Buffer$/.test(tag(message))
      ? 'new Uint8Array(buffer)'
      : 'a string, a Uint8Array or json(value)',
  );
};
