// Integers of QUIC, and QMux's frames with them.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Integers, integers } from '../../src/transport/integers.ts';
import { concat } from '../../src/wire/codec.ts';

test('integers are read as they were written, in as few bytes as RFC 9000 §16 has', () => {
  fc.assert(
    fc.property(fc.array(fc.bigInt({ min: 0n, max: (1n << 62n) - 1n })), values => {
      const bytes = integers(...values);
      const sizes = values.map(value => (value < 0x40n ? 1 : value < 0x4000n ? 2 : value < 0x40000000n ? 4 : 8));
      assert.equal(
        bytes.length,
        sizes.reduce((sum, size) => sum + size, 0),
      );
      const reader = new Integers(bytes);
      for (const value of values) assert.equal(reader.big(), value);
      assert.ok(!reader.left);
    }),
  );
  // The examples of RFC 9000 appendix A.1.
  assert.deepEqual([...integers(494_878_333)], [0x9d, 0x7f, 0x3e, 0x7d]);
  assert.deepEqual([...integers(151_288_809_941_952_652n)], [0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c]);
  assert.equal(new Integers(integers(0x3f5153300d0a0d0an)).next(), Number(0x3f5153300d0a0d0an));
  assert.equal(new Integers(integers(7, 16_384)).next(), 7);
});

test('bytes that end early are told', () => {
  const whole = concat([integers(3), new Uint8Array([1, 2, 3])]);
  assert.deepEqual([...new Integers(whole).counted()], [1, 2, 3]);
  assert.throws(() => new Integers(whole.subarray(0, 3)).counted(), RangeError);
  assert.throws(() => new Integers(new Uint8Array([0xc0, 1])).next(), RangeError);
});
