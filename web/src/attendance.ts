// Who is in a channel (PROTOCOL §4.15).

import type { Member } from './message.ts';
import { plain } from './plain.ts';
import type { Publication } from './subscription.ts';
import type { FrameOf, PRESENCE_PAGE } from './wire/frames.ts';

/** Who is in a channel; {@link apply} keeps it up to date. */
export class Attendance {
  /** The members that are listed. */
  declare members: Member[];
  /** Sessions in the channel, exact. */
  declare connections: number;
  /** Different users among them, exact. */
  declare users: number;
  /** Whether `members` are all. Once it is false, ask again. */
  declare complete: boolean;
  /** It is exactly what the channel's log says up to this offset; `undefined` where the channel did not exist. */
  declare offset: bigint | undefined;
  /** The channel's log that `offset` is in. */
  declare epoch: string | undefined;

  /** @internal Made by `Client`. */
  constructor({ members, connections, users, complete, position }: Omit<FrameOf<typeof PRESENCE_PAGE>, 'request'>) {
    plain(this);
    Object.assign(this, { members, connections, users, complete, offset: position?.offset, epoch: position?.epoch });
  }

  /** Takes in what a subscription of the channel is given; what is no change, known, or of another log, is passed over. */
  apply(publication: Publication): void {
    const { epoch, offset, message } = publication ?? {};
    if (message?.kind !== 'presence') return;
    if (this.offset === undefined) this.complete = false;
    else if (epoch === this.epoch && offset > this.offset) {
      const stay = this.members.filter(({ id }) => !message.left.some(gone => gone.id === id));
      this.members = [...stay, ...message.joined];
      this.connections = message.connections;
      this.users = message.users;
      this.complete &&= message.complete;
      this.offset = offset;
    }
  }
}
