// Requests that many pages never make, loaded with the first of them: history, presence and a new token.

import { Attendance } from './attendance.ts';
import { CHANNEL_NAME, COUNT, check, checkOptions, FLAG, type Rule, TOKEN } from './check.ts';
import { publication } from './feed.ts';
import type { Ask } from './line.ts';
import type { HistoryOptions } from './options.ts';
import { plain } from './plain.ts';
import { type Position, parts } from './position.ts';
import type { Publication } from './subscription.ts';
import type { Tokens } from './tokens.ts';
import { HISTORY_PAGE, PRESENCE_PAGE, READ_HISTORY, READ_PRESENCE, REFRESH, REFRESHED } from './wire/frames.ts';
import { addRare } from './wire/rare.ts';

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

addRare();

const OPTIONS: Record<string, Rule> = { limit: COUNT, reverse: FLAG };

export const history = async (ask: Ask, channel: string, options: HistoryOptions = {}): Promise<History> => {
  check('channel', channel, CHANNEL_NAME);
  checkOptions('history', options, OPTIONS);
  const { from, limit = 256, reverse = false } = options;
  const query = { ...(from !== undefined && { from: parts(from) }), limit: BigInt(limit), reverse };
  const [{ kept, complete }, frames] = await ask(HISTORY_PAGE, { type: READ_HISTORY, channel, query });
  const publications = frames.map(frame => plain(publication(kept?.epoch ?? '', frame)));
  return {
    publications,
    complete,
    kept: kept && plain(kept),
    next: publications.at(-1)?.position,
  };
};

export const presence = async (ask: Ask, channel: string, options: { limit?: number } = {}): Promise<Attendance> => {
  check('channel', channel, CHANNEL_NAME);
  checkOptions('presence', options, OPTIONS);
  const [page] = await ask(PRESENCE_PAGE, { type: READ_PRESENCE, channel, limit: BigInt(options.limit ?? 256) });
  return new Attendance(page);
};

/** Shows the server a token in place of the one before. `keep` hears of it once the server took it. */
export const refresh = async (ask: Ask, token: string, keep: Tokens['keep']): Promise<number | undefined> => {
  check('token', token, TOKEN);
  const [{ expires }] = await ask(REFRESHED, { type: REFRESH, token });
  keep(token, expires);
  return expires;
};
