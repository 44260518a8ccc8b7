'use client';
// React hooks over a client. Nothing connects while React renders, on a server or in a browser: effects do.

import {
  createContext,
  createElement,
  type ReactElement,
  type ReactNode,
  useCallback,
  useContext,
  useEffect,
  useRef,
  useState,
  useSyncExternalStore,
} from 'react';
import type { Client, State } from '../client.ts';
import { ALREADY_SUBSCRIBED, LOST, type TidingsError } from '../codes.ts';
import type { Member } from '../message.ts';
import type { SubscribeOptions } from '../options.ts';
import type { EndEvent, Publication, Subscription, SubscriptionEvent } from '../subscription.ts';

const Context = createContext<Client | undefined>(undefined);

/** Gives a client to the hooks below it. The client is the application's: it is neither made nor closed here. */
export const TidingsProvider = ({ client, children }: { client: Client; children?: ReactNode }): ReactElement =>
  createElement(Context.Provider, { value: client }, children);

/** The client of the nearest {@link TidingsProvider}, or the one that is passed. Throws where there is neither. */
export const useClient = (client?: Client): Client => {
  const found = useContext(Context);
  if (client) return client;
  if (!found) throw new Error('no client: wrap the component in <TidingsProvider client={…}>, or pass { client }');
  return found;
};

const IDLE: State = { status: 'idle' };
const STATES = ['connecting', 'connected', 'disconnected'] as const;

/** What the client is doing; connects it when the component is mounted. `idle` on a server. */
export const useConnection = (options: { client?: Client } = {}): State => {
  const client = useClient(options.client);
  const subscribe = useCallback(
    (changed: () => void) => {
      const offs = STATES.map(state => client.on(state, changed));
      return () => {
        for (const off of offs) off();
      };
    },
    [client],
  );
  return useSyncExternalStore(
    subscribe,
    () => client.state,
    () => IDLE,
  );
};

const NEVER = () => () => {};

/** Identity of the client's run, for effects that subscribe: `connect` starts another after the client ended. */
const useRun = (client: Client, used: boolean): unknown => {
  const subscribe = useCallback((changed: () => void) => client.on('connecting', changed), [client]);
  const run = () => client.closed;
  return useSyncExternalStore(used ? subscribe : NEVER, run, run);
};

/** Options of {@link useChannel}. */
export interface UseChannelOptions extends SubscribeOptions {
  /** Most publications that are kept, the newest. Default 100; 0 for none, where `onEvent` is enough. */
  limit?: number;
  /** Hears of every event. May be another function on each render. */
  onEvent?: (event: SubscriptionEvent) => void;
  client?: Client;
}

/** What {@link useChannel} returns. */
export interface ChannelState {
  /** `idle` where there is no channel, `subscribing` until the server has answered, `ended` with why in `error`. */
  status: 'idle' | 'subscribing' | 'subscribed' | 'ended';
  /** The newest, in the order of their offsets. */
  publications: Publication[];
  /** Why it ended, or could not begin. While `subscribed`: why publications before the subscription could not be read. */
  error: TidingsError | EndEvent | undefined;
}

const NO_CHANNEL: ChannelState = { status: 'idle', publications: [], error: undefined };

/** What a subscription is made with, as text: an effect runs anew where this changes. */
const textOf = (since: SubscribeOptions['since']): string | undefined =>
  typeof since === 'object' && since ? `${since.epoch}:${since.offset}` : since;

/** Subscribes while the component is mounted; to nothing where `channel` is `null`. Components of one client share the stream. */
export const useChannel = (channel: string | null | undefined, options: UseChannelOptions = {}): ChannelState => {
  const client = useClient(options.client);
  const [state, setState] = useState(NO_CHANNEL);
  const latestOptions = useRef(options);
  latestOptions.current = options;
  const since = textOf(options.since);
  const { latest } = options;
  const run = useRun(client, typeof channel === 'string');
  // biome-ignore lint/correctness/useExhaustiveDependencies: a run of the client has subscriptions of its own.
  useEffect(() => {
    if (channel === null || channel === undefined) return setState(NO_CHANNEL);
    setState({ ...NO_CHANNEL, status: 'subscribing' });
    return subscribe(
      client,
      channel,
      { ...(since !== undefined && { since }), ...(latest !== undefined && { latest }) },
      {
        ready: () => setState(state => (state.status === 'subscribing' ? { ...state, status: 'subscribed' } : state)),
        event(event) {
          const { onEvent, limit = 100 } = latestOptions.current;
          if (event.type === 'publication' && limit > 0) {
            setState(state => ({ ...state, publications: [...state.publications, event].slice(-limit) }));
          } else if (event.type === 'end') {
            setState(state => ({ ...state, status: 'ended', error: event }));
          }
          onEvent?.(event);
        },
        failed: error => setState({ ...NO_CHANNEL, status: 'ended', error }),
        incomplete: error => setState(state => ({ ...state, error })),
      },
    );
  }, [client, run, channel, since, latest]);
  return state;
};

/** What {@link usePresence} returns. */
export interface PresenceState {
  /** Whether the members are known. */
  ready: boolean;
  /** Those that the server lists, 256 at most. */
  members: Member[];
  /** Sessions in the channel, and different users among them, exact. */
  connections: number;
  users: number;
  /** Whether `members` are all. */
  complete: boolean;
  error: TidingsError | EndEvent | undefined;
}

const NOBODY: PresenceState = {
  ready: false,
  members: [],
  connections: 0,
  users: 0,
  complete: false,
  error: undefined,
};

/** Who is in a channel with presence. Subscribes to it, and so takes part, while the component is mounted. */
export const usePresence = (channel: string | null | undefined, options: { client?: Client } = {}): PresenceState => {
  const client = useClient(options.client);
  const [state, setState] = useState(NOBODY);
  const run = useRun(client, typeof channel === 'string');
  // biome-ignore lint/correctness/useExhaustiveDependencies: a run of the client has subscriptions of its own.
  useEffect(() => {
    setState(NOBODY);
    if (channel === null || channel === undefined) return;
    let over = false;
    let attendance: Awaited<ReturnType<Client['presence']>> | undefined;
    /** What came while the page was asked for. */
    let waiting: Publication[] = [];
    let asking = false;
    let again = false;
    const failed = (error: TidingsError | EndEvent) => {
      if (!over) setState(state => ({ ...state, error }));
    };
    const show = () => {
      if (over || !attendance) return;
      const { members, connections, users, complete } = attendance;
      setState({ ready: true, members, connections, users, complete, error: undefined });
    };
    const load = async () => {
      again = true;
      if (asking) return;
      asking = true;
      while (again && !over) {
        again = false;
        attendance = undefined;
        try {
          const page = await client.presence(channel);
          if (again) continue;
          attendance = page;
          for (const publication of waiting.splice(0)) attendance.apply(publication);
          show();
        } catch (error) {
          failed(error as TidingsError);
        }
      }
      asking = false;
    };
    const off = subscribe(
      client,
      channel,
      {},
      {
        ready: () => void load(),
        event(event) {
          if (event.type === 'end') return failed(event);
          if (event.type === 'break') waiting = [];
          if (event.type !== 'publication') return void load();
          if (event.message.kind !== 'presence') return;
          if (!attendance) waiting = [...waiting, event].slice(-WAITING);
          else {
            const { complete } = attendance;
            attendance.apply(event);
            show();
            // More came and went than are named.
            if (complete && !attendance.complete) void load();
          }
        },
        failed,
      },
    );
    return () => {
      over = true;
      off();
    };
  }, [client, run, channel]);
  return state;
};

/** Changes that are kept while a page of presence is on its way: a server makes four a second. */
const WAITING = 256;

/** Subscribes, and returns how to end it. What is thrown at once is heard as a failure. */
const subscribe = (
  client: Client,
  channel: string,
  options: SubscribeOptions,
  hears: {
    ready: () => void;
    event: (event: SubscriptionEvent) => void;
    failed: (error: TidingsError) => void;
    /** What `options` ask for could not be read; what is published from now on is heard. */
    incomplete?: (error: TidingsError) => void;
  },
): (() => void) => {
  let subscription: Subscription;
  let conflict = false;
  try {
    try {
      subscription = client.subscribe(channel, options);
    } catch (error) {
      conflict = (error as TidingsError).code === ALREADY_SUBSCRIBED;
      if (!conflict) throw error;
      subscription = client.subscribe(channel);
    }
  } catch (error) {
    hears.failed(error as TidingsError);
    return () => {};
  }
  let over = false;
  /** The newest publication of the history that was given. */
  let last: Publication | undefined;
  const hear = (event: SubscriptionEvent) => {
    const to = 'offset' in event ? event.offset : 'to' in event ? event.to : undefined;
    if (event.type === 'break' && !event.after.startsWith(`${last?.epoch}:`)) last = undefined;
    // Given already.
    if (last && to !== undefined && to <= last.offset) return;
    if (!over) hears.event(event);
  };
  const listen = () => {
    for (const type of ['publication', 'lagged', 'skipped', 'break', 'end'] as const) subscription.on(type, hear);
  };
  /** The stream is past the beginning that was asked for: what it gave before is in the history. Until then its events wait. */
  const joined = async () => {
    try {
      await subscription.ready;
      const publications = await past(client, channel, options);
      for (const publication of publications) if (!over) hears.event({ ...publication, type: 'publication' });
      last = publications.at(-1);
    } catch (error) {
      if (!over) hears.incomplete?.(error as TidingsError);
    }
    if (!over) listen();
  };
  const { since, latest } = options;
  const { position } = subscription;
  const wanted = since !== undefined || latest !== undefined;
  if (wanted && (conflict || (position !== undefined && position !== since))) void joined();
  else listen();
  subscription.ready.then(
    () => {
      if (!over) hears.ready();
    },
    // Heard of as the end.
    () => {},
  );
  return () => {
    over = true;
    subscription.unsubscribe();
  };
};

/** Pages that are asked for again where the connection breaks meanwhile. */
const TRIES = 3;

/** The publications from where `options` say to begin, oldest first. */
const past = async (
  client: Client,
  channel: string,
  { since, latest = Infinity }: SubscribeOptions,
): Promise<Publication[]> => {
  const reverse = since === undefined;
  const found: Publication[] = [];
  let from = since === 'oldest' ? undefined : since;
  for (let tries = 1; found.length < latest; ) {
    try {
      const limit = Math.min(256, latest - found.length);
      const page = await client.history(channel, { ...(from !== undefined && { from }), limit, reverse });
      if (from && !found.length && !page.complete) {
        // Not there any more: from the oldest that is.
        from = undefined;
        continue;
      }
      found.push(...page.publications);
      from = page.next;
      if (!from || found.at(-1)!.offset === page.kept?.[reverse ? 'first' : 'last']) break;
    } catch (error) {
      if ((error as TidingsError).code !== LOST || tries++ === TRIES) throw error;
    }
  }
  return reverse ? found.reverse() : found;
};
