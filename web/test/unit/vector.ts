// Values of the golden vectors, as tests/vectors/README.md writes them, as those of the codec.

import type { Frame } from '../../src/wire/frames.ts';

export const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
export const octets = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, 'hex'));

const camel = (name: string) => name.replace(/_(.)/g, (_, letter: string) => letter.toUpperCase());

/** Fields that are strings in the vectors and elsewhere too; all other strings stand for u64. */
const TEXT = new Set(['token', 'client', 'features', 'user', 'server', 'channel', 'key', 'conflation_key']);
for (const name of ['reason', 'name', 'publisher', 'text', 'content_type']) TEXT.add(name);
/** Of those the ones that are identities, and that are numbers. */
const DIGITS = new Set(['epoch', 'session', 'id']);
const NUMBERS = new Set(['time', 'timestamp', 'grace', 'expires', 'idle_timeout', 'connections', 'users']);

const isNumber = (name: string, inside: string) =>
  NUMBERS.has(name) || inside === 'limits' || (name === 'count' && inside !== 'Latest');

/** The value of a frame as an implementation reads it, that has doubles for numbers; whether it is exact. */
export const fromVector = (type: number, value: unknown): [Frame, exact: boolean] => {
  let exact = true;
  const into = (value: unknown, name: string, inside: string): unknown => {
    if (typeof value === 'string') {
      if (name === 'bytes') return octets(value);
      if (TEXT.has(name)) return value;
      if (DIGITS.has(name)) return BigInt(value).toString(16).padStart(16, '0');
      if (!isNumber(name, inside)) return BigInt(value);
      exact &&= Number.isSafeInteger(Number(value));
      return Number(value);
    }
    if (Array.isArray(value)) return value.map(item => into(item, name, inside));
    if (typeof value !== 'object' || value === null) return value;
    const fields = Object.entries(value).filter(([, field]) => field !== null);
    const variant = fields[0]?.[0];
    if (variant && /^[A-Z]/.test(variant)) {
      const kind = variant.replace(/^./, first => first.toLowerCase());
      return { kind, ...(into(fields[0]![1], '', variant) as object) };
    }
    return Object.fromEntries(fields.map(([key, field]) => [camel(key), into(field, key, name || inside)]));
  };
  return [{ type, ...(into(value, '', '') as object) } as Frame, exact];
};
