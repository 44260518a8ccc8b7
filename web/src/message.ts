// What applications send and receive (PROTOCOL §3.4).

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

/** A value as JSON, to publish. */
export const json = (value: unknown): Data => new Data('application/json', utf8.encode(JSON.stringify(value)));

export const fromWire = (message: WireMessage): Message =>
  message.kind === 'data' ? new Data(message.contentType, message.bytes) : message;

/** A number of something as it travels. Throws a `RangeError` where it is none. */
export const count = (value: number): bigint => BigInt(Math.max(0, Math.trunc(value)));

/** The message as it travels, and its size as PROTOCOL §3.4 counts it. */
export const toWire = (message: Publishable): [WireMessage, size: number] => {
  if (typeof message === 'string') message = new Data('text/plain; charset=utf-8', utf8.encode(message));
  if (message instanceof Uint8Array) message = new Data('application/octet-stream', message);
  if (message.kind === 'data') {
    return [message, utf8.encode(message.contentType).length + message.bytes.length];
  }
  const { kind, text, timestamp = Date.now() } = message;
  return [{ kind, text, timestamp: Number(count(timestamp)) }, utf8.encode(text).length];
};
