// One look at the server, and what the difference of two says.

import type { Api, Channel, Health, Session } from './api.ts';

/** Most channels, and sessions, that a look takes in. */
export const MOST_CHANNELS = 1_000;
export const MOST_SESSIONS = 300;
const PAGE = 500;

/** A channel, and how many publications it gets. */
export interface Lively extends Channel {
  /** Publications per second since the look before; `undefined` in the first. */
  rate: number | undefined;
}

export interface Look {
  /** When, in ms of `performance.now`. */
  at: number;
  health: Health;
  channels: Lively[];
  sessions: Session[];
  /** Whether there are more channels, or sessions, than were taken in. */
  moreChannels: boolean;
  moreSessions: boolean;
}

/** Looks at the server. `before` is the look before, for the rates. Throws what {@link Api} throws. */
export async function look(api: Api, before: Look | undefined): Promise<Look> {
  const at = performance.now();
  const [health, [channels, moreChannels], [sessions, moreSessions]] = await Promise.all([
    api.health(),
    allChannels(api),
    allSessions(api),
  ]);
  return { at, health, channels: rated(channels, at, before), sessions, moreChannels, moreSessions };
}

async function allChannels(api: Api): Promise<[Channel[], boolean]> {
  const all: Channel[] = [];
  let after: string | undefined;
  do {
    const { channels, next } = await api.channels(PAGE, after);
    all.push(...channels);
    after = next ?? undefined;
  } while (after !== undefined && all.length < MOST_CHANNELS);
  return [all, after !== undefined];
}

async function allSessions(api: Api): Promise<[Session[], boolean]> {
  const all: Session[] = [];
  for (;;) {
    const page = await api.sessions(all.at(-1)?.id);
    all.push(...page);
    if (page.length < 100) return [all, false];
    if (all.length >= MOST_SESSIONS) return [all, true];
  }
}

/** A log that is new since the look before began at 0 then. */
export function rated(channels: Channel[], at: number, before: Look | undefined): Lively[] {
  if (!before) return channels.map(channel => ({ ...channel, rate: undefined }));
  const seconds = Math.max(0.001, (at - before.at) / 1_000);
  const known = new Map(before.channels.map(channel => [channel.channel, channel]));
  return channels.map(channel => {
    const then = known.get(channel.channel);
    // Where the look before did not take in all, this may only be new to us.
    if (!then && before.moreChannels) return { ...channel, rate: undefined };
    const from = then?.epoch === channel.epoch ? then.offset : 0;
    return { ...channel, rate: Math.max(0, channel.offset - from) / seconds };
  });
}
