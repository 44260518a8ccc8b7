// Values of the golden vectors, as tests/vectors/README.md writes them, to and from those of the codec.

import type { Frame } from '../../src/wire/frames.ts';

export const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
export const octets = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, 'hex'));

const snake = (name: string) => name.replace(/[A-Z]/g, letter => `_${letter.toLowerCase()}`);
const camel = (name: string) => name.replace(/_(.)/g, (_, letter: string) => letter.toUpperCase());

export function toVector(frame: Frame): unknown {
  const { type, ...body } = frame;
  return out(body);
}

function out(value: unknown): unknown {
  if (value === undefined) return null;
  if (typeof value === 'bigint') return String(value);
  if (value instanceof Uint8Array) return hex(value);
  if (Array.isArray(value)) return value.map(out);
  if (typeof value !== 'object') return value;
  const { kind, ...fields } = value as Record<string, unknown>;
  const object = Object.fromEntries(Object.entries(fields).map(([name, field]) => [snake(name), out(field)]));
  return kind ? { [(kind as string).replace(/^./, first => first.toUpperCase())]: object } : object;
}

/** Fields that are strings in the vectors and elsewhere too; all other strings stand for u64. */
const TEXT = new Set(['token', 'client', 'features', 'user', 'server', 'channel', 'key', 'conflation_key']);
for (const name of ['reason', 'name', 'publisher', 'text', 'content_type']) TEXT.add(name);

export const fromVector = (type: number, value: unknown): Frame => ({ type, ...(into('', value) as object) }) as Frame;

function into(name: string, value: unknown): unknown {
  if (value === null) return undefined;
  if (typeof value === 'string') {
    if (name === 'bytes') return octets(value);
    return TEXT.has(name) ? value : BigInt(value);
  }
  if (Array.isArray(value)) return value.map(item => into(name, item));
  if (typeof value !== 'object') return value;
  const fields = Object.entries(value);
  const variant = fields[0]?.[0];
  if (variant && /^[A-Z]/.test(variant)) {
    const kind = variant.replace(/^./, first => first.toLowerCase());
    return { kind, ...(into('', fields[0]![1]) as object) };
  }
  return Object.fromEntries(fields.map(([key, field]) => [camel(key), into(key, field)]));
}
