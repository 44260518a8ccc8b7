// The fallback where WebTransport is missing or UDP does not pass. Loaded on demand.

import { LOST, TidingsError } from '../codes.ts';
import type { Dial } from './transport.ts';

/** Not available yet: every attempt fails. */
export const dial: Dial = () => Promise.reject(new TidingsError(LOST, 'there is no WebSocket fallback'));
