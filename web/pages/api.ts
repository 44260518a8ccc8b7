// The server's HTTP API, as `GET /openapi.json` describes it.

/** How long an answer may take, in ms. */
const DEADLINE = 5_000;

/** What the API answers in place of what was asked for. */
export class ApiError extends Error {
  /** Of HTTP. */
  readonly status: number;
  /** Name of the error, such as `invalid_channel`. */
  readonly code: string;
  /** Its number in PROTOCOL §7; absent where it is one of HTTP alone. */
  readonly number: number | undefined;

  constructor(status: number, code: string, number: number | undefined, message: string) {
    super(message);
    this.status = status;
    this.code = code;
    this.number = number;
  }
}

/** Where a publication stands. */
export interface Published {
  channel: string;
  epoch: string;
  offset: number;
}

/** A channel that there is now. */
export interface Channel {
  channel: string;
  epoch: string;
  /** Of the newest publication; 0 before the first. */
  offset: number;
  subscribers: number;
  retained: { publications: number; bytes: number };
}

/** A subscription of a session. */
export interface Progress {
  name: string;
  source: 'channel' | 'endpoint';
  epoch: string;
  offset: number;
  behind: number;
  waiting_bytes: number;
  lagged: number;
  skipped: number;
}

/** Somebody who is connected. */
export interface Session {
  id: string;
  user: string | null;
  client: string;
  transport: string;
  address: string;
  round_trip_us: number;
  subscriptions: Progress[];
}

/** How the server is. */
export interface Health {
  status: string;
  version: string;
  channels: number;
  subscriptions: number;
}

/** Every method throws {@link ApiError} where the server refuses, and another error where it does not answer. */
export class Api {
  readonly #key: string;

  /** Throws a `TypeError` for a key that cannot be sent. */
  constructor(key: string) {
    if (!/^[\x21-\x7e]+$/.test(key)) throw new TypeError('a key has no spaces, and no letters beyond ASCII');
    this.#key = key;
  }

  health(): Promise<Health> {
    return this.#ask('GET', '/health');
  }

  /** In the order of their names; `next` is what to give as `after` for those that follow. */
  channels(limit: number, after?: string): Promise<{ channels: Channel[]; next: string | null }> {
    const query = new URLSearchParams({ limit: String(limit), ...(after !== undefined && { after }) });
    return this.#ask('GET', `/v1/channels?${query}`);
  }

  /** In the order of their ids, at most 100; `after` is the last id of the answer before. */
  async sessions(after?: string): Promise<Session[]> {
    const { sessions } = await this.#ask<{ sessions: Session[] }>('POST', '/v1/sessions', { after });
    return sessions;
  }

  /** `json` is any JSON value as text: subscribers get it as it stands there. */
  publish(channel: string, message: { text: string } | { json: string }): Promise<Published> {
    if ('text' in message) return this.#ask('POST', '/v1/publish', { channel, text: message.text });
    return this.#send('POST', '/v1/publish', `{"channel":${JSON.stringify(channel)},"json":${message.json}}`);
  }

  notify(user: string, text: string): Promise<Published> {
    return this.#ask('POST', '/v1/notify', { user, text });
  }

  announce(text: string): Promise<Published> {
    return this.#ask('POST', '/v1/announce', { text });
  }

  #ask<T>(method: string, path: string, body?: unknown): Promise<T> {
    return this.#send(method, path, body === undefined ? undefined : JSON.stringify(body));
  }

  async #send<T>(method: string, path: string, body: string | undefined): Promise<T> {
    const answer = await fetch(path, {
      method,
      headers: {
        authorization: `Bearer ${this.#key}`,
        ...(body !== undefined && { 'content-type': 'application/json' }),
      },
      signal: AbortSignal.timeout(DEADLINE),
      ...(body !== undefined && { body }),
    });
    if (answer.ok) return (await answer.json()) as T;
    const { error } = (await answer.json().catch(() => ({}))) as {
      error?: { code: string; number?: number; message: string };
    };
    const message = error?.message ?? `${method} ${path}: ${answer.status} ${answer.statusText}`;
    throw new ApiError(answer.status, error?.code ?? `http_${answer.status}`, error?.number, message);
  }
}
