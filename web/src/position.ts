// Places in logs (PROTOCOL §3.3).

import { PROTOCOL_VIOLATION, TidingsError } from './codes.ts';
import type { WirePosition } from './wire/frames.ts';

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
export function parsePosition(position: Position): PositionParts {
  const [, epoch, offset] = /^([0-9a-f]{16}):(\d{1,20})$/.exec(position) ?? [];
  if (!epoch || !offset) throw new TidingsError(PROTOCOL_VIOLATION, `${position} is no position`);
  return { epoch, offset: BigInt(offset) };
}

export const hex = (value: bigint): string => value.toString(16).padStart(16, '0');

export const toText = (at: WirePosition): Position => `${hex(at.epoch)}:${at.offset}`;

export function toWire(position: Position | PositionParts): WirePosition {
  const { epoch, offset } = parsePosition(
    typeof position === 'string' ? position : `${position.epoch}:${position.offset}`,
  );
  return { epoch: BigInt(`0x${epoch}`), offset };
}

/** Whether this is the name of a channel (PROTOCOL §3.1). */
export const isChannel = (name: string): boolean => /^[\w\-.:/@+=~,|%]{1,255}$/.test(name);
