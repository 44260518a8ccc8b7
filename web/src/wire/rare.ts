// The frames of PROTOCOL §8 that many pages never need: those of `requests.ts`, which is loaded with the first such request.

import { bool, digits, number, option, string, struct, u64 } from './codec.ts';
import { attendance, bodies, channel, members, position, request } from './frames.ts';
import { HISTORY_PAGE, PRESENCE_PAGE, READ_HISTORY, READ_PRESENCE, REFRESH, REFRESHED } from './types.ts';

const rare = {
  [READ_HISTORY]: { ...channel, query: struct({ from: option(position), limit: u64, reverse: bool }) },
  [REFRESH]: { ...request, token: string },
  [READ_PRESENCE]: { ...channel, limit: u64 },
  [HISTORY_PAGE]: {
    ...request,
    kept: option(struct({ epoch: digits, first: u64, last: u64 })),
    complete: bool,
    count: number,
  },
  [REFRESHED]: { ...request, expires: option(number) },
  [PRESENCE_PAGE]: { ...request, position: option(position), ...attendance, members, complete: bool },
};
export type Rare = typeof rare;

/** From now on these are written and read, too. */
export const addRare = (): void => {
  Object.assign(bodies, rare);
};
