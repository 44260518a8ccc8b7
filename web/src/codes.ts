// Codes of PROTOCOL §7, and the one kind of error.

export const LOST = -1;
export const INVALID_ARGUMENT = -2;
export const SIGNED_OUT = -3;
export const UNSUPPORTED = -4;
export const CLOSED = 0;
export const UNSUBSCRIBED = 1;
export const ENDED = 2;
export const PROTOCOL_VIOLATION = 100;
export const FRAME_TOO_LARGE = 101;
export const UNEXPECTED_FRAME = 104;
export const INVALID_CHANNEL = 110;
export const ALREADY_SUBSCRIBED = 111;
export const MESSAGE_TOO_LARGE = 113;
export const TOO_MANY_SUBSCRIPTIONS = 114;
export const NO_STREAM_LEFT = 115;
export const INVALID_KEY = 116;
export const RESERVED_MESSAGE = 119;
export const OVERLOADED = 300;
export const LAGGED_OUT = 304;
export const GOING_AWAY = 401;

/** The codes of PROTOCOL §7 by name. 1000 to 2999 are the application's. */
export const codes = {
  /** No code of the protocol: there is no connection, or it broke without a word. Try again after a pause. */
  LOST,
  /** No code of the protocol: a value that was passed to this library is not valid. Nothing was sent. */
  INVALID_ARGUMENT,
  /** No code of the protocol: `getToken` returned `null`. `connect` starts again. */
  SIGNED_OUT,
  /** No code of the protocol: this runtime has neither WebTransport nor WebSocket. */
  UNSUPPORTED,
  CLOSED,
  UNSUBSCRIBED,
  ENDED,
  PROTOCOL_VIOLATION,
  FRAME_TOO_LARGE,
  UNSUPPORTED_VERSION: 102,
  UNEXPECTED_FRAME,
  UNKNOWN_REQUEST: 105,
  INVALID_CHANNEL,
  ALREADY_SUBSCRIBED,
  NOT_SUBSCRIBED: 112,
  MESSAGE_TOO_LARGE,
  TOO_MANY_SUBSCRIPTIONS,
  NO_STREAM_LEFT,
  INVALID_KEY,
  KEY_REUSED: 117,
  RESERVED_MESSAGE,
  UNAUTHENTICATED: 200,
  INVALID_TOKEN: 201,
  TOKEN_EXPIRED: 202,
  PERMISSION_DENIED: 203,
  REVOKED: 204,
  OVERLOADED,
  TOO_MANY_SESSIONS: 301,
  TOO_MANY_CHANNELS: 302,
  HELLO_TIMEOUT: 303,
  LAGGED: LAGGED_OUT,
  STALLED: 305,
  INTERNAL: 400,
  GOING_AWAY,
} as const;

/** Whether to try again: not at all, after a pause that grows, or with other credentials. */
export type Retry = 'no' | 'backoff' | 'credentials';

/** What the range of a code says; codes that are not known are judged by it, too (PROTOCOL §7). */
export const retryOf = (code: number): Retry => {
  if (code === LOST) return 'backoff';
  if (code < 200) return 'no';
  if (code < 300) return 'credentials';
  return code < 1000 || code >= 2000 ? 'backoff' : 'no';
};

/** Whatever goes wrong. `message` says it for people, `code` for programs. */
export class TidingsError extends Error {
  override readonly name = 'TidingsError';
  /** One of {@link codes}, or of the application. */
  // `declare`, here and elsewhere: the constructor sets it.
  declare readonly code: number;

  constructor(code: number, message: string) {
    super(message);
    this.code = code;
  }

  /** Everything that is known of it, for `JSON.stringify`. */
  toJSON(): object {
    const { name, code, message, retry } = this;
    return { name, code, message, retry };
  }

  /** Whether to try again. */
  get retry(): Retry {
    return retryOf(this.code);
  }
}

/** A known frame that is not due. */
export const unexpected = ({ type }: { type: number }, code: number = UNEXPECTED_FRAME): TidingsError =>
  new TidingsError(code, `unexpected frame ${type}`);

/** Whatever was thrown, as an error of ours. */
export const toError = (error: unknown): TidingsError =>
  error instanceof TidingsError ? error : new TidingsError(LOST, `${(error as Error | undefined)?.message ?? error}`);
