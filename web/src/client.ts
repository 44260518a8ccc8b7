// The client: connects, subscribes, publishes.

import type { Attendance } from './attendance.ts';
import {
  CHANNEL_NAME,
  COUNT,
  check,
  checkOptions,
  FLAG,
  FUNCTION,
  invalid,
  KEY,
  type Rule,
  TEXT,
  TIME,
  TOKEN,
} from './check.ts';
import { newClaim } from './claim.ts';
import { ALREADY_SUBSCRIBED, CLOSED, LOST, MESSAGE_TOO_LARGE, TidingsError, toError, UNSUPPORTED } from './codes.ts';
import { type Connected, drive } from './driver.ts';
import { Events } from './events.ts';
import { type Feed, newFeed } from './feed.ts';
import { newSignal, type Signal } from './frames.ts';
import { greet } from './greet.ts';
import { type Ask, type Line, newLine } from './line.ts';
import { serve } from './link.ts';
import { type Publishable, toWire } from './message.ts';
import {
  type ClientOptions,
  type HistoryOptions,
  type PublishOptions,
  type SubscribeOptions,
  toHash,
} from './options.ts';
import { OLDEST, type Position, parts, toText } from './position.ts';
import { newRegistry, type Registry } from './registry.ts';
import type { History } from './requests.ts';
import { Subscription } from './subscription.ts';
import { type GetToken, newTokens, type Tokens } from './tokens.ts';
import { race, remember, remembered } from './transport/connect.ts';
import type { Dial, Kind } from './transport/transport.ts';
import { available, dial as webtransport } from './transport/webtransport.ts';
import {
  CHANNEL,
  ENDPOINT,
  PING,
  PONG,
  PUBLISH_WITH,
  PUBLISHED_ONCE,
  type Request,
  type WireStart,
} from './wire/frames.ts';

/** Nothing was asked of the client yet: it has no connection, no timer, and no use of the browser. */
export interface Idle {
  status: 'idle';
}
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
  /** Channels that it was to be subscribed to by the rules and could not; the event `refused` says so, too. */
  refused: Refused[];
  /** When the session's credentials end, in ms since 1970 of the server's clock; absent for never. */
  expires?: number;
  /** Time in ms after which the server closes a connection from which nothing came. The client sends `Ping` at a third of it. */
  idleTimeout: number;
}
/** An automatic subscription that the server could not make. */
export interface Refused {
  channel: string;
  /** One of `codes`. */
  code: number;
  reason: string;
}
/** Over: `close` was called, `getToken` returned `null` (`codes.SIGNED_OUT`), or a code says not to come back. `connect` starts again. */
export interface Disconnected {
  status: 'disconnected';
  error: TidingsError;
}
/** What a client is doing. */
export type State = Idle | Connecting | ConnectedState | Disconnected;

interface ClientEvents {
  connecting: Connecting;
  connected: ConnectedState;
  disconnected: Disconnected;
  refused: Refused;
}

/** Where a publication stands (PROTOCOL §4.6). */
export interface Acknowledgement {
  position: Position;
  /** How safely it is kept: 0, in the server's memory. */
  level: number;
  /** It stood there already: its key was used before. */
  duplicate: boolean;
}

/**
 * A connection to a server, which is made again when it breaks. Begins with the first use: `connect`, `subscribe`, a request, or a listener;
 * `close` ends it, and `connect` starts it again. What is asked while there is no connection waits for the next one.
 */
export class Client extends Events<ClientEvents> {
  /** Why it is over, once it is. Never rejects. Another promise after `connect` has started it again. */
  declare closed: Promise<{ code: number; reason: string }>;
  readonly #connect: (tokens: Tokens, signal: AbortSignal) => Promise<Connected>;
  readonly #getToken: GetToken | undefined;
  /** Another for each run: what was asked for one user is not shown for the next. */
  #tokens!: Tokens;
  /** Asks the server; the first use starts the client. */
  readonly #ask: Ask = (...request) => {
    this.listened();
    return this.#line.ask(...request);
  };
  readonly #feeds: Map<string, Feed> = new Map();
  /** Waits for the next state, and tells of one. */
  readonly #signal: Signal = newSignal();
  #registry!: Registry;
  #line!: Line;
  #state: State = { status: 'idle' };
  /** Ends the run at hand. Resolves when its connection is closed. */
  #end!: (error: TidingsError) => Promise<unknown>;
  #settle!: (closed: { code: number; reason: string }) => void;

  /**
   * `url`: `https://HOST:PORT`; the path `/tidings` is added where there is none. Throws a `TidingsError` for another kind of URL, and for
   * options that are not valid. Uses nothing of the browser.
   */
  constructor(url: string | URL, options: ClientOptions = {}) {
    super();
    let target: URL | undefined;
    try {
      target = new URL(url);
    } catch {
      // Told below.
    }
    // Without a user, a password and a fragment.
    if (!target || !/^https:\/\/[^/@]+\/[^#]*#?$/.test(target.href)) {
      throw invalid('url', target ? target.origin : url, 'https://HOST:PORT');
    }
    checkOptions('Client', options, CLIENT_OPTIONS);
    checkOptions('dial', options.dial ?? {}, DIALS);
    if (target.pathname === '/') target.pathname = '/tidings';
    this.#getToken = options.getToken;
    this.#connect = connector(target, options);
    this.#open(options.token);
  }

  /** What the client is doing now. */
  get state(): State {
    return this.#state;
  }

  /** Starts the client, where it is not running; then as {@link ready}, but that a rejection may be left alone. */
  connect(): Promise<ConnectedState> {
    if (this.#state.status === 'disconnected') {
      this.#open(this.#tokens.last());
      this.#start();
    }
    const ready = this.ready();
    ready.catch(() => {});
    return ready;
  }

  /** Waits for a connection. Rejects with a `TidingsError` when the client is over. */
  async ready(): Promise<ConnectedState> {
    this.listened();
    while (this.#state.status === 'connecting') await this.#signal[0]();
    if (this.#state.status === 'disconnected') throw this.#state.error;
    return this.#state as ConnectedState;
  }

  /** Ends the connection and every subscription. */
  async close(): Promise<void> {
    this.listened();
    await this.#end(new TidingsError(CLOSED, 'closed'));
  }

  /**
   * Subscribes to a channel, or takes up a subscription that the server made by itself, such as `global`. The client does so again on
   * every connection, from where it was. A channel that is subscribed to already is shared: the same stream, from where it is. Throws
   * where the name breaks the grammar, and where the stream that is shared began elsewhere than `options` say.
   */
  subscribe(channel: string, options: SubscribeOptions = {}): Subscription {
    check('channel', channel, CHANNEL_NAME);
    return this.#read(CHANNEL, channel, ...startOf(options));
  }

  /** Reads a stream that user code on the server opens for this client under this name (PROTOCOL §5.1). It need not be there yet. */
  stream(name: string): Subscription {
    check('stream', name, CHANNEL_NAME);
    return this.#read(ENDPOINT, name, { kind: 'head' }, '');
  }

  /**
   * Publishes a message and waits for the acknowledgement. Rejects with a `TidingsError`: the server's code, or `LOST` where the
   * connection broke first, and whether the message was published is not known. With a `key` it is sent again instead.
   */
  async publish(channel: string, message: Publishable, options: PublishOptions = {}): Promise<Acknowledgement> {
    check('channel', channel, CHANNEL_NAME);
    checkOptions('publish', options, PUBLISH_OPTIONS);
    const [wire, size] = toWire(message);
    const { key, conflationKey, echo = true } = options;
    for (;;) {
      const most = (this.#state as Partial<ConnectedState>).limits?.message;
      if (size > most!) throw new TidingsError(MESSAGE_TOO_LARGE, `${size} bytes, the server takes ${most}`);
      try {
        const frame: Request = { type: PUBLISH_WITH, channel, key, conflationKey, echo, message: wire };
        const [{ position, level, duplicate }] = await this.#ask(PUBLISHED_ONCE, frame, size);
        return { position: toText(position), level, duplicate };
      } catch (error) {
        if (key === undefined || (error as TidingsError).code !== LOST) throw error;
      }
    }
  }

  /** Reads a part of a channel's log. A subscription is not needed. */
  async history(channel: string, options?: HistoryOptions): Promise<History> {
    return (await this.#requests()).history(this.#ask, channel, options);
  }

  /** Who is in a channel, `limit` and 256 of them listed at most. The client must be allowed to subscribe; it need not have done so. */
  async presence(channel: string, options?: { limit?: number }): Promise<Attendance> {
    return (await this.#requests()).presence(this.#ask, channel, options);
  }

  /**
   * Shows the server a new token of the same user in place of the one before: from now on the session may what this one says, and lives
   * as long. Later connections show it too. Returns when it ends, in ms since 1970; `undefined` for never.
   */
  async refresh(token: string): Promise<number | undefined> {
    return (await this.#requests()).refresh(this.#ask, token, this.#tokens.keep);
  }

  /** Asks the server for a sign of life: the time in ms until it came. */
  async rtt(): Promise<number> {
    await this.ready();
    const start = performance.now();
    await this.#ask(PONG, { type: PING });
    return performance.now() - start;
  }

  /** Loaded with the first of them; where that fails, once more as soon as there is a connection. */
  async #requests(): Promise<typeof import('./requests.ts')> {
    try {
      return await import('./requests.ts');
    } catch {
      await this.ready();
      return import('./requests.ts').catch(error => {
        throw toError(error);
      });
    }
  }

  /** First use. */
  protected override listened(): void {
    if (this.#state.status === 'idle') this.#start();
  }

  #open(token: string | undefined): void {
    this.closed = new Promise(resolve => (this.#settle = resolve));
    const tokens: Tokens = newTokens(
      token,
      this.#getToken,
      async token => {
        const { refresh } = await this.#requests();
        return tokens === this.#tokens && refresh(this.#ask, token, tokens.keep);
      },
      error => tokens === this.#tokens && this.#end(error),
    );
    this.#tokens = tokens;
  }

  #start(): void {
    const registry = (this.#registry = newRegistry());
    const line = (this.#line = newLine());
    const tokens = this.#tokens;
    const settle = this.#settle;
    let over = false;
    const [finished, stop] = drive(
      tokens,
      (attempt, error) => this.#become({ status: 'connecting', attempt, error }),
      signal => this.#connect(tokens, signal),
      ([transport, session]) => {
        const { type: _, subscriptions, ...welcome } = session[1];
        tokens.welcomed(welcome.expires);
        this.#become({
          ...welcome,
          status: 'connected',
          transport,
          subscriptions: subscriptions.map(({ channel }) => channel),
        });
        for (const refused of welcome.refused) this.emit('refused', refused);
        return serve(session, registry, line, tokens.watch);
      },
    );
    const end = (error: TidingsError) => {
      if (over) return;
      over = true;
      registry.end(error);
      line.end(error);
      this.#become({ status: 'disconnected', error });
    };
    this.#end = error => {
      stop(error);
      end(error);
      return finished;
    };
    this.#state = { status: 'connecting', attempt: 0, error: undefined };
    void finished.then(error => {
      end(error);
      settle({ code: error.code, reason: error.message });
    });
  }

  #read(source: number, name: string, start: WireStart, from: string): Subscription {
    this.listened();
    const key = source + name;
    let feed = this.#feeds.get(key);
    if (!feed || feed.claim.over) {
      const claim = newClaim(source, name, start);
      const gone = () => {
        if (this.#feeds.get(key)?.claim === claim) this.#feeds.delete(key);
      };
      feed = newFeed(this.#registry, claim, from, gone);
      this.#feeds.set(key, feed);
      claim.ready.catch(gone);
    } else if (from && from !== feed.from) {
      throw new TidingsError(ALREADY_SUBSCRIBED, `${name} began with ${feed.from || 'the head'}: not with ${from}`);
    }
    return new Subscription(feed);
  }

  #become(state: State): void {
    this.#state = state;
    this.#signal[1]();
    this.emit((state as Connecting).status, state as never);
  }
}

const HASHES: Rule = [Array.isArray, 'an array of hashes'];
const KINDS: Kind[] = ['webtransport', 'websocket'];
const TRANSPORTS: string[] = ['auto', ...KINDS];
const TRANSPORT: Rule = [(kind: string) => TRANSPORTS.includes(kind), TRANSPORTS.join()];
const CLIENT_OPTIONS: Record<string, Rule> = {
  token: TOKEN,
  getToken: FUNCTION,
  transport: TRANSPORT,
  headStart: TIME,
  deadline: TIME,
  certificateHashes: HASHES,
  name: TEXT,
};
const DIALS: Record<string, Rule> = { webtransport: FUNCTION, websocket: FUNCTION };
const PUBLISH_OPTIONS: Record<string, Rule> = { key: KEY, conflationKey: KEY, echo: FLAG };
const SUBSCRIBE_OPTIONS: Record<string, Rule> = { latest: COUNT };

/** Where to begin, and the same in words. */
const startOf = (options: SubscribeOptions): [WireStart, string] => {
  checkOptions('subscribe', options, SUBSCRIBE_OPTIONS);
  const { since, latest } = options;
  if (latest !== undefined) {
    if (since !== undefined) throw invalid('since', since, 'no since beside latest');
    return [{ kind: 'latest', count: BigInt(latest) }, `latest: ${latest}`];
  }
  if (since === undefined) return [{ kind: 'head' }, ''];
  const position = since === 'oldest' ? OLDEST : parts(since);
  return [{ kind: 'afterOrOldest', position }, `since: ${since === 'oldest' ? since : toText(position)}`];
};

/** Loaded where it is needed, which in most browsers is never. */
const websocket: Dial = async (url, options) => (await import('./transport/websocket.ts')).dial(url, options);

const connector = (url: URL, options: ClientOptions) => {
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
  const auto = transport === 'auto';
  const tried = auto ? KINDS : [transport];
  const ways = async (tokens: Tokens) => {
    const can: Record<Kind, unknown> = {
      webtransport: dial?.webtransport || available(auto),
      websocket: dial?.websocket || globalThis.WebSocket,
    };
    const kinds = tried.filter(kind => can[kind]);
    if (!kinds[0]) {
      throw new TidingsError(UNSUPPORTED, `no ${tried.join(' and no ')} in this runtime`);
    }
    const token = await tokens.next();
    if (remembered(url.origin) === 'websocket') kinds.reverse();
    // Until it works again.
    remember(url.origin, undefined);
    return kinds.map(kind => async (signal: AbortSignal): Promise<Connected> => {
      const opened = await dials[kind](url, { certificateHashes: hashes, signal });
      check(`dial.${kind}`, opened?.createBidirectionalStream, FUNCTION);
      return [kind, await greet(opened, token, name, signal)];
    });
  };
  return async (tokens: Tokens, signal: AbortSignal): Promise<Connected> => {
    const connected = await race(
      () => ways(tokens),
      headStart,
      deadline,
      signal,
      ([, [transport]]) => transport.close(),
    );
    remember(url.origin, connected[0]);
    return connected;
  };
};
