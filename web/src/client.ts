// The client: connects, subscribes, publishes.

import { Attendance } from './attendance.ts';
import { newClaim } from './claim.ts';
import { INVALID_CHANNEL, LOST, MESSAGE_TOO_LARGE, TidingsError } from './codes.ts';
import { type Connected, drive } from './driver.ts';
import { Events } from './events.ts';
import { newSignal, type Signal } from './frames.ts';
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
import { newRegistry, type Registry } from './registry.ts';
import { type Publication, publication, Subscription } from './subscription.ts';
import { newTokens, type Tokens } from './tokens.ts';
import { race, remember, remembered } from './transport/connect.ts';
import type { Dial, Kind } from './transport/transport.ts';
import { available, dial as webtransport } from './transport/webtransport.ts';
import {
  CHANNEL,
  ENDPOINT,
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
  error: TidingsError | undefined;
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
  /** What the log holds; `undefined` where there is no such channel. `first` is `last + 1` where it holds nothing. */
  kept: { epoch: string; first: bigint; last: bigint } | undefined;
  /** Where the next page begins: the position of the last publication, if there is one. */
  next: Position | undefined;
}

/**
 * A connection to a server, which is made again when it breaks. Connects at once; `close` ends it. What is asked while there is no
 * connection waits for the next one.
 */
export class Client extends Events<ClientEvents> {
  /** Why it is over, once it is. Never rejects. */
  declare readonly closed: Promise<{ code: number; reason: string }>;
  readonly #registry: Registry = newRegistry();
  readonly #line: Line = newLine();
  readonly #tokens: Tokens;
  readonly #close: () => void;
  /** Waits for the next state, and tells of one. */
  readonly #signal: Signal = newSignal();
  #state!: State;

  /** `url`: `https://HOST:PORT`; the path `/tidings` is added where there is none. Throws a `TypeError` for another kind of URL. */
  constructor(url: string | URL, options: ClientOptions = {}) {
    super();
    const target = new URL(url);
    if (target.protocol !== 'https:') throw new TypeError(`${url} is not https:`);
    if (target.pathname === '/') target.pathname = '/tidings';
    this.#tokens = newTokens(options.token, options.getToken, token => this.refresh(token));
    const [over, close] = drive(
      this.#tokens,
      (attempt, error) => this.#become({ status: 'connecting', attempt, error }),
      connector(target, this.#tokens, options),
      connected => {
        this.#become(welcomed(connected));
        return serve(connected[1], this.#registry, this.#line, this.#tokens.watch);
      },
    );
    this.#close = close;
    this.closed = over.then(error => {
      this.#registry.end(error);
      this.#line.end(error);
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
    while (this.#state.status === 'connecting') await this.#signal[0]();
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
    const { key, echo = true } = options;
    for (;;) {
      const most = (this.#state as Partial<ConnectedState>).limits?.message ?? size;
      if (size > most) throw new TidingsError(MESSAGE_TOO_LARGE, `${size} bytes, the server takes ${most}`);
      try {
        const frame: Request = { ...options, type: PUBLISH_WITH, channel, echo, message: wire };
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
    return {
      publications,
      complete,
      kept,
      next: publications.at(-1)?.position,
    };
  }

  /** Who is in a channel, `limit` and 256 of them listed at most. The client must be allowed to subscribe; it need not have done so. */
  async presence(channel: string, { limit = 256 }: { limit?: number } = {}): Promise<Attendance> {
    parse(channel);
    const [page] = await this.#line.ask(PRESENCE_PAGE, { type: READ_PRESENCE, channel, limit: count(limit) });
    return new Attendance(page);
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
    await this.ready();
    const start = performance.now();
    await this.#line.ask(PONG, { type: PING });
    return performance.now() - start;
  }

  #become(state: State): void {
    this.#state = state;
    this.#signal[1]();
    this.emit(state.status, state as never);
  }
}

const parse = (channel: string): string => {
  if (!isChannel(channel)) throw new TidingsError(INVALID_CHANNEL, `no channel name: ${channel}`);
  return channel;
};

const startOf = ({ since, latest }: SubscribeOptions): WireStart => {
  if (latest !== undefined) return { kind: 'latest', count: count(latest) };
  if (since === undefined) return { kind: 'head' };
  return { kind: 'afterOrOldest', position: since === 'oldest' ? OLDEST : parts(since) };
};

const welcomed = ([transport, [, { type: _, subscriptions, ...welcome }]]: Connected): ConnectedState => ({
  ...welcome,
  status: 'connected',
  transport,
  subscriptions: subscriptions.map(({ channel }) => channel),
});

/** Loaded where it is needed, which in most browsers is never. */
const websocket: Dial = async (url, options) => (await import('./transport/websocket.ts')).dial(url, options);

const connector = (url: URL, tokens: Tokens, options: ClientOptions) => {
  const {
    transport = 'auto',
    headStart = 500,
    deadline = 10_000,
    certificateHashes = [],
    dial,
    name = 'tidings-js/0.1.0',
  } = options;
  const hashes = certificateHashes.map(toHash);
  const dials: Record<Kind, Dial> = { webtransport, websocket, ...dial };
  const ways = async () => {
    const token = await tokens.next();
    const kinds: Kind[] = transport === 'auto' ? (Object.keys(dials) as Kind[]) : [transport];
    if (kinds[1]) {
      if (!(dial?.webtransport || available())) kinds.shift();
      else if (remembered(url.origin) === 'websocket') kinds.reverse();
    }
    // Until it works again.
    remember(url.origin, undefined);
    return kinds.map(kind => async (signal: AbortSignal): Promise<Connected> => {
      const opened = await dials[kind](url, { certificateHashes: hashes, signal });
      return [kind, await greet(opened, token, name, signal)];
    });
  };
  return async (signal: AbortSignal): Promise<Connected> => {
    const connected = await race(ways, headStart, deadline, signal, ([, [transport]]) => transport.close());
    remember(url.origin, connected[0]);
    return connected;
  };
};
