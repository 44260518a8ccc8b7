// The client: connects, subscribes, publishes.

import { Attendance } from './attendance.ts';
import { newClaim } from './claim.ts';
import { INVALID_CHANNEL, LOST, MESSAGE_TOO_LARGE, TidingsError } from './codes.ts';
import { type Connected, discard, drive } from './driver.ts';
import { Events } from './events.ts';
import { newSignal } from './frames.ts';
import { greet } from './greet.ts';
import { type Line, newLine } from './line.ts';
import { serve } from './link.ts';
import { count, type Publishable, toWire } from './message.ts';
import {
  type ClientOptions,
  type HistoryOptions,
  type PublishOptions,
  type SubscribeOptions,
  toHash,
} from './options.ts';
import { isChannel, OLDEST, type Position, parts, toText } from './position.ts';
import { CHANNEL, ENDPOINT, newRegistry, type Registry } from './registry.ts';
import { type Publication, publication, Subscription } from './subscription.ts';
import { newTokens, type Tokens } from './tokens.ts';
import { race, remember, remembered } from './transport/connect.ts';
import type { Dial, Kind } from './transport/transport.ts';
import { available, dial as webtransport } from './transport/webtransport.ts';
import {
  HISTORY_PAGE,
  PING,
  PONG,
  PRESENCE_PAGE,
  PUBLISH_WITH,
  PUBLISHED_ONCE,
  READ_HISTORY,
  READ_PRESENCE,
  REFRESH,
  REFRESHED,
  type Request,
  type WireStart,
} from './wire/frames.ts';

/** Before the first connection, or between two. */
export interface Connecting {
  status: 'connecting';
  /** Attempts since the break; 0 for the first of all. */
  attempt: number;
  /** Why the attempt before failed, or the connection broke. */
  error?: TidingsError;
}
/** What the server said at the beginning of this connection (PROTOCOL §4.2). */
export interface ConnectedState {
  status: 'connected';
  transport: Kind;
  /** Identity of the session in the server's logs: 16 hexadecimal digits. */
  session: string;
  /** Who this client is; absent for a session without a user. */
  user?: string;
  /** The server's name and version. */
  server: string;
  /** Optional parts of the protocol that both know. */
  features: string[];
  /** The largest message and frame in bytes, and the most subscriptions. */
  limits: { message: number; frame: number; subscriptions: number };
  /** Channels that the server subscribed this client to by itself: `subscribe` takes them up. */
  subscriptions: string[];
}
/** Over: `close` was called, or a code says not to come back. */
export interface Disconnected {
  status: 'disconnected';
  error: TidingsError;
}
/** What a client is doing. */
export type State = Connecting | ConnectedState | Disconnected;

interface ClientEvents {
  connecting: Connecting;
  connected: ConnectedState;
  disconnected: Disconnected;
}

/** Where a publication stands (PROTOCOL §4.6). */
export interface Acknowledgement {
  position: Position;
  /** How safely it is kept: 0, in the server's memory. */
  level: number;
  /** It stood there already: its key was used before. */
  duplicate: boolean;
}

/** A part of a channel's log. */
export interface History {
  publications: Publication[];
  /** Nothing is missing between `from` and them. */
  complete: boolean;
  /** What the log holds; absent where there is no such channel. `first` is `last + 1` where it holds nothing. */
  kept?: { epoch: string; first: bigint; last: bigint };
  /** Where the next page begins: the position of the last publication, if there is one. */
  next?: Position;
}

const NAME = 'tidings-js/0.1.0';

/**
 * A connection to a server, which is made again when it breaks. Connects at once; `close` ends it. What is asked while there is no
 * connection waits for the next one.
 */
export class Client extends Events<ClientEvents> {
  /** Why it is over, once it is. Never rejects. */
  readonly closed: Promise<{ code: number; reason: string }>;
  readonly #registry: Registry = newRegistry();
  readonly #line: Line = newLine();
  readonly #tokens: Tokens;
  readonly #close: () => void;
  readonly #changed: () => Promise<void>;
  readonly #wake: () => void;
  #state: State = { status: 'connecting', attempt: 0 };

  /** `url`: `https://HOST:PORT`; the path `/tidings` is added where there is none. Throws a `TypeError` for another kind of URL. */
  constructor(url: string | URL, options: ClientOptions = {}) {
    super();
    [this.#changed, this.#wake] = newSignal();
    const target = new URL(url);
    if (target.protocol !== 'https:') throw new TypeError(`${url} does not begin with https:`);
    if (target.pathname === '/') target.pathname = '/tidings';
    this.#tokens = newTokens(options.token, options.getToken);
    const connect = connector(target, options);
    const [over, close] = drive({
      tokens: this.#tokens,
      deadline: options.deadline ?? 10_000,
      connecting: (attempt, error) => this.#become({ status: 'connecting', attempt, ...(error && { error }) }),
      connect,
      connected: connected => {
        this.#become(welcomed(connected));
        const watch = (skew: () => number) => this.#tokens.watch(token => this.refresh(token), skew);
        return serve(connected[1], this.#registry, this.#line, watch);
      },
    });
    this.#close = close;
    this.closed = over.then(error => {
      this.#registry.end(error);
      this.#line.close(error);
      this.#become({ status: 'disconnected', error });
      return { code: error.code, reason: error.message };
    });
  }

  /** What the client is doing now. */
  get state(): State {
    return this.#state;
  }

  /** Waits for a connection. Rejects with a `TidingsError` when the client is over. */
  async ready(): Promise<ConnectedState> {
    while (this.#state.status === 'connecting') await this.#changed();
    if (this.#state.status === 'disconnected') throw this.#state.error;
    return this.#state;
  }

  /** Ends the connection and every subscription. */
  async close(): Promise<void> {
    this.#close();
    await this.closed;
  }

  /**
   * Subscribes to a channel, or takes up a subscription that the server made by itself, such as `global`. The client does so again on
   * every connection, from where it was. Throws where the name breaks the grammar, and where it reads the channel already.
   */
  subscribe(channel: string, options: SubscribeOptions = {}): Subscription {
    return new Subscription(this.#registry, newClaim(CHANNEL, parse(channel), startOf(options)));
  }

  /** Reads a stream that user code on the server opens for this client under this name (PROTOCOL §5.1). It need not be there yet. */
  stream(name: string): Subscription {
    return new Subscription(this.#registry, newClaim(ENDPOINT, parse(name), { kind: 'head' }));
  }

  /**
   * Publishes a message and waits for the acknowledgement. Rejects with a `TidingsError`: the server's code, or `LOST` where the
   * connection broke first, and whether the message was published is not known. With a `key` it is sent again instead.
   */
  async publish(channel: string, message: Publishable, options: PublishOptions = {}): Promise<Acknowledgement> {
    parse(channel);
    const [wire, size] = toWire(message);
    const { key, conflationKey, echo = true } = options;
    for (;;) {
      const most = this.#state.status === 'connected' ? this.#state.limits.message : size;
      if (size > most) {
        throw new TidingsError(MESSAGE_TOO_LARGE, `the message has ${size} bytes, the server takes ${most}`);
      }
      try {
        const frame: Request = { type: PUBLISH_WITH, channel, key, conflationKey, echo, message: wire };
        const [{ position, level, duplicate }] = await this.#line.ask(PUBLISHED_ONCE, frame, size);
        return { position: toText(position), level, duplicate };
      } catch (error) {
        if (key === undefined || (error as TidingsError).code !== LOST) throw error;
      }
    }
  }

  /** Reads a part of a channel's log. A subscription is not needed. */
  async history(channel: string, options: HistoryOptions = {}): Promise<History> {
    parse(channel);
    const { from, limit = 256, reverse = false } = options;
    const query = { ...(from !== undefined && { from: parts(from) }), limit: count(limit), reverse };
    const [{ kept, complete }, frames] = await this.#line.ask(HISTORY_PAGE, { type: READ_HISTORY, channel, query });
    const publications = frames.map(frame => publication(kept?.epoch ?? '', frame));
    const last = publications.at(-1)?.position;
    return {
      publications,
      complete,
      ...(kept && { kept }),
      ...(last && { next: last }),
    };
  }

  /** Who is in a channel, `limit` and 256 of them listed at most. The client must be allowed to subscribe; it need not have done so. */
  async presence(channel: string, { limit = 256 }: { limit?: number } = {}): Promise<Attendance> {
    parse(channel);
    const [page] = await this.#line.ask(PRESENCE_PAGE, { type: READ_PRESENCE, channel, limit: count(limit) });
    return new Attendance(page.members, page.connections, page.users, page.complete, page.position?.offset);
  }

  /**
   * Shows the server a new token of the same user in place of the one before: from now on the session may what this one says, and lives
   * as long. Later connections show it too. Returns when it ends, in ms since 1970; `undefined` for never.
   */
  async refresh(token: string): Promise<number | undefined> {
    const [{ expires }] = await this.#line.ask(REFRESHED, { type: REFRESH, token });
    this.#tokens.keep(token, expires);
    return expires;
  }

  /** Asks the server for a sign of life: the time in ms until it came. */
  async rtt(): Promise<number> {
    let start = 0;
    await this.#line.ask(PONG, { type: PING }, 0, () => {
      start = performance.now();
    });
    return performance.now() - start;
  }

  #become(state: State): void {
    this.#state = state;
    this.#wake();
    this.emit(state.status, state as never);
  }
}

function parse(channel: string): string {
  if (!isChannel(channel)) throw new TidingsError(INVALID_CHANNEL, `${JSON.stringify(channel)} is no channel name`);
  return channel;
}

function startOf({ since, latest }: SubscribeOptions): WireStart {
  if (latest !== undefined) return { kind: 'latest', count: count(latest) };
  if (since === undefined) return { kind: 'head' };
  return { kind: 'afterOrOldest', position: since === 'oldest' ? OLDEST : parts(since) };
}

function welcomed([transport, { welcome }]: Connected): ConnectedState {
  const { type: _, subscriptions, ...welcomed } = welcome;
  return { ...welcomed, status: 'connected', transport, subscriptions: subscriptions.map(({ channel }) => channel) };
}

/** Loaded where it is needed, which in most browsers is never. */
const websocket: Dial = async (url, options) => (await import('./transport/websocket.ts')).dial(url, options);

function connector(url: URL, options: ClientOptions) {
  const { transport = 'auto', headStart = 500, dial, name = NAME } = options;
  const hashes = (options.certificateHashes ?? []).map(toHash);
  const ways: Record<Kind, Dial> = { webtransport, websocket, ...dial };
  return async (token: string | undefined, signal: AbortSignal): Promise<Connected> => {
    const kinds: Kind[] = transport === 'auto' ? ['webtransport', 'websocket'] : [transport];
    if (transport === 'auto') {
      if (!available() && !dial?.webtransport) kinds.shift();
      else if (remembered(url.origin) === 'websocket') kinds.reverse();
    }
    const attempts = kinds.map(kind => async (signal: AbortSignal): Promise<Connected> => {
      const opened = await ways[kind](url, { certificateHashes: hashes, signal });
      return [kind, await greet(opened, token, name, signal)];
    });
    let worked: Kind | undefined;
    try {
      const connected = await race(attempts, headStart, signal, discard);
      worked = connected[0];
      return connected;
    } finally {
      remember(url.origin, worked);
    }
  };
}
