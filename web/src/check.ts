// Checks of what user code passes in: each rule is a test, what it expects, and the code of the error.

import { INVALID_ARGUMENT, INVALID_CHANNEL, INVALID_KEY, TidingsError } from './codes.ts';
import { utf8 } from './wire/codec.ts';

/** A test of a value, what it expects, the code where that is not {@link INVALID_ARGUMENT}, and how the value is shown. */
export type Rule = readonly [
  fits: (value: never) => unknown,
  expected: string | RegExp,
  code?: number | undefined,
  show?: (value: unknown) => string,
];

/** Name of a value's built-in class, in every realm: `Uint8Array`, `Null`. */
export const tag = (value: unknown): string => ({}).toString.call(value).slice(8, -1);

const shown = (value: unknown): string =>
  typeof value === 'string' ? JSON.stringify(value.slice(0, 64)) : Object(value) === value ? tag(value) : String(value);

/** The error for a value that does not fit. */
export const invalid = (
  what: string,
  value: unknown,
  expected: string | RegExp,
  code: number = INVALID_ARGUMENT,
  show: (value: unknown) => string = shown,
): TidingsError => new TidingsError(code, `${what}: expected ${expected}, got ${show(value)}`);

/** Throws a {@link TidingsError} where the value does not fit. */
export const check = (what: string, value: unknown, [fits, ...rest]: Rule): void => {
  if (!fits(value as never)) throw invalid(what, value, ...rest);
};

/** Checks options by name; those that are `undefined` are left out. */
export const checkOptions = (what: string, options: object, rules: Record<string, Rule>): void => {
  check(`${what} options`, options, OBJECT);
  for (const name in rules) {
    const value = (options as Record<string, unknown>)[name];
    if (value !== undefined) check(name, value, rules[name]!);
  }
};

/** Text that UTF-8 can carry. */
const isText = (value: unknown): value is string => typeof value === 'string' && !/\p{Cs}/u.test(value);
const whole =
  (most: number) =>
  (value: number): boolean =>
    Number.isSafeInteger(value) && value >= 0 && value <= most;

const CHANNEL_PATTERN = /^[\w\-.:/@+=~,|%]{1,255}$/;
/** Whether this is the name of a channel (PROTOCOL §3.1). */
export const isChannel = (name: unknown): boolean => typeof name === 'string' && CHANNEL_PATTERN.test(name);

const typed = (type: string): Rule => [value => typeof value === type, type];

const OBJECT: Rule = [value => typeof value === 'object' && value, 'object'];
export const CHANNEL_NAME: Rule = [isChannel, CHANNEL_PATTERN, INVALID_CHANNEL];
export const TEXT: Rule = [isText, 'a string, no lone surrogates'];
export const FILLED: Rule = [value => isText(value) && value, 'a non-empty string'];
export const KEY: Rule = [
  value => isText(value) && value && utf8.encode(value).length < 129,
  '1 to 128 bytes',
  INVALID_KEY,
];
/** The text of a token is a secret: the error shows its type alone. */
export const TOKEN: Rule = [FILLED[0], FILLED[1], undefined, tag];

export const COUNT: Rule = [whole(Infinity), 'a whole number'];
/** Most that `setTimeout` takes. */
export const TIME: Rule = [whole(0x7fff_ffff), 'whole ms below 2^31'];
export const FLAG: Rule = typed('boolean');
export const FUNCTION: Rule = typed('function');
export const BYTES: Rule = [value => tag(value) === 'Uint8Array', 'Uint8Array'];
