// Places in logs (PROTOCOL §3.3).

import { invalid } from './check.ts';
import { plain } from './plain.ts';

/** A place in a channel's log as text, `EPOCH:OFFSET`: to be stored, and given to `since` later. */
export type Position = string;

/** The parts of a {@link Position}. */
export interface PositionParts {
  /** Identity of the log: 16 hexadecimal digits. */
  epoch: string;
  /** Number in the log, from 1. 0 stands before the first publication. */
  offset: bigint;
}

/** Takes a position apart. Throws a {@link TidingsError} where it is none. */
export const parsePosition = (position: Position): PositionParts => {
  const [, epoch, digits] = (typeof position === 'string' && /^([0-9a-f]{16}):(\d{1,20})$/.exec(position)) || [];
  const offset = BigInt(digits ?? -1);
  if (BigInt.asUintN(64, offset) !== offset) throw invalid('position', position, 'EPOCH:OFFSET');
  return plain({ epoch: epoch!, offset });
};

/** Before everything that a log has. */
export const OLDEST: PositionParts = { epoch: '0000000000000000', offset: 0n };

export const toText = ({ epoch, offset }: PositionParts): Position => `${epoch}:${offset}`;

/** The parts of what user code gives. */
export const parts = (position: Position | PositionParts): PositionParts =>
  parsePosition(typeof position === 'object' && position ? toText(position) : (position as Position));
