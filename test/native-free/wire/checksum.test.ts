import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { checksum, fold, pseudoHeaderSum, sum, updateChecksum } from '../../../native-free/wire/checksum.ts';
import { PacketMemory } from '../../../native-free/wire/packet-memory.ts';
import { be16, be32, concat, payload, slowSum } from './packets.ts';

describe('checksum', () => {
  it('gives the worked example of RFC 1071', () => {
    const memory = new PacketMemory(new ArrayBuffer(8));
    memory.bytes.set([0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]);
    expect(sum(memory, 0, 8)).toBe(0xddf2);
    expect(checksum(memory, 0, 8)).toBe(0x220d);
  });

  it('is what the slow sum gives, at every alignment and length, in both kinds of buffer', () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 200 }),
        fc.integer({ min: 0, max: 9 }),
        fc.boolean(),
        (bytes, offset, isShared) => {
          const length = bytes.length + offset + 3;
          const memory = new PacketMemory(isShared ? new SharedArrayBuffer(length) : new ArrayBuffer(length));
          memory.bytes.fill(0xa5);
          memory.bytes.set(bytes, offset);
          // Zero has two forms in ones' complement; both sums keep 0 for all-zero input only.
          expect(sum(memory, offset, bytes.length)).toBe(slowSum(bytes));
        },
      ),
    );
  });

  it('is what the slow sum gives by vector code, too', () => {
    const alias = new WebAssembly.Memory({ initial: 2, maximum: 2 });
    const memory = new PacketMemory(alias.buffer, alias);
    expect(memory.blockSum).toBeDefined();
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 1600, size: 'max' }),
        fc.integer({ min: 0, max: 70 }),
        (bytes, offset) => {
          memory.bytes.fill(0xa5, 0, 2000);
          memory.bytes.set(bytes, offset);
          expect(sum(memory, offset, bytes.length)).toBe(slowSum(bytes));
        },
      ),
    );
    for (const offset of [0, 1, 62]) {
      memory.bytes.fill(0xff);
      expect(sum(memory, offset, 65535)).toBe(slowSum(memory.bytes.subarray(offset, offset + 65535)));
    }
    // To the memory's very end, and not past it.
    const last = memory.bytes.subarray(-1000);
    expect(sum(memory, memory.length - 1000, 1000)).toBe(slowSum(last));
  });

  it('does not overflow on the largest packet', () => {
    for (const offset of [0, 1]) {
      const memory = new PacketMemory(new ArrayBuffer(65536));
      memory.bytes.fill(0xff);
      expect(sum(memory, offset, 65535)).toBe(slowSum(memory.bytes.subarray(offset, offset + 65535)));
    }
    const random = new PacketMemory(new ArrayBuffer(65536));
    random.bytes.set(payload(65536, 7));
    expect(sum(random, 1, 65535)).toBe(slowSum(random.bytes.subarray(1)));
  });

  it('sums the pseudo-header like the bytes it stands for', () => {
    fc.assert(
      fc.property(
        fc.constantFrom(8, 32),
        fc.integer({ min: 0, max: 255 }),
        fc.integer({ min: 0, max: 65535 }),
        fc.integer({ min: 1, max: 99999 }),
        (length, protocol, size, seed) => {
          const memory = new PacketMemory(new ArrayBuffer(64));
          const addresses = payload(length, seed);
          memory.bytes.set(addresses, 12);
          expect(pseudoHeaderSum(memory, 12, length, protocol, size)).toBe(
            slowSum(concat(addresses, be32(size), be32(protocol))),
          );
        },
      ),
    );
  });

  it('updated for one changed word is as if computed anew', () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ minLength: 20, maxLength: 20 }),
        fc.integer({ min: 1, max: 9 }),
        fc.integer({ min: 0, max: 0xffff }),
        (bytes, word, value) => {
          bytes[0] = 0x45;
          const old = ~slowSum(bytes) & 0xffff;
          const from = ((bytes[word * 2] ?? 0) << 8) | (bytes[word * 2 + 1] ?? 0);
          bytes.set(be16(value), word * 2);
          expect(updateChecksum(old, from, value)).toBe(~slowSum(bytes) & 0xffff);
        },
      ),
    );
  });

  it('folds with end-around carry', () => {
    expect(fold(0xffffffff)).toBe(0xffff);
    expect(fold(0x1fffe)).toBe(0xffff);
    expect(fold(0x10000)).toBe(1);
  });
});
