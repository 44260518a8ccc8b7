// Who is in a channel (PROTOCOL §4.15).

import type { Member } from './message.ts';
import type { Publication } from './subscription.ts';

/** Who is in a channel; {@link apply} keeps it up to date. */
export class Attendance {
  /** The members that are listed. */
  members: Member[];
  /** Sessions in the channel, exact. */
  connections: number;
  /** Different users among them, exact. */
  users: number;
  /** Whether `members` are all. Once it is false, ask again. */
  complete: boolean;
  /** It is exactly what the channel's log says up to this offset; `undefined` where the channel did not exist. */
  offset: bigint | undefined;

  constructor(members: Member[], connections: number, users: number, complete: boolean, offset: bigint | undefined) {
    this.members = members;
    this.connections = connections;
    this.users = users;
    this.complete = complete;
    this.offset = offset;
  }

  /** Takes in what a subscription of the channel is given; what is no change, or known, is passed over. */
  apply({ offset, message }: Publication): void {
    if (message.kind !== 'presence') return;
    if (this.offset === undefined) this.complete = false;
    if (this.offset === undefined || offset <= this.offset) return;
    const left = new Set(message.left.map(({ id }) => id));
    this.offset = offset;
    this.members = [...this.members.filter(({ id }) => !left.has(id)), ...message.joined];
    this.connections = message.connections;
    this.users = message.users;
    this.complete &&= message.complete;
  }
}
