// Full jitter (PROTOCOL §6).

/** Wait in ms before attempt number `attempt` (from 1) after a break: `draw` of the bound, where `draw` is in 0..1. */
export const backoff = (attempt: number, draw: number = Math.random()): number =>
  Math.min(20_000, 200 * 2 ** attempt) * draw;
