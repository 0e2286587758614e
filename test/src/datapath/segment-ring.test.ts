import fc from 'fast-check';
import { expect, test } from 'vitest';
import { createSegmentRing, SegmentRing } from '../../../src/datapath/segment-ring.ts';
import { PATH_LENGTH } from '../../../src/datapath/sockaddr.ts';

const PATH = 0;
const AT = 64;

/** A datagram of that length, behind its path, told from others by `seed`. */
const datagram = (length: number, seed: number): Uint8Array => {
  const bytes = new Uint8Array(AT + length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = Math.imul(i + 1, seed * 2 + 1) >>> 3;
  return bytes;
};

test('what is pushed is taken whole and in order, also across the end, and never more than there is room for', () => {
  const length = fc.oneof(fc.integer({ min: 0, max: 2000 }), fc.integer({ min: 0, max: 65_535 }));
  const step = fc.record({ isPush: fc.boolean(), length, trafficClass: fc.integer({ min: 0, max: 255 }) });
  fc.assert(
    fc.property(fc.array(step, { minLength: 50, maxLength: 400 }), (steps) => {
      const memory = createSegmentRing();
      const [giver, taker] = [new SegmentRing(memory), new SegmentRing(memory)];
      const waiting: {
        readonly bytes: Uint8Array;
        readonly length: number;
        readonly trafficClass: number;
      }[] = [];
      const taken = new Uint8Array(AT + 65_535);
      let bytes = 0;
      for (const [seed, { isPush, length, trafficClass }] of steps.entries()) {
        if (isPush) {
          const one = datagram(length, seed);
          const isIn = giver.push(one, AT, length, PATH, trafficClass);
          // A record may lose as much again at the end.
          if (bytes + 2 * (length + 64) < 1 << 20) expect(isIn).toBe(true);
          if (bytes + length > 1 << 20) expect(isIn).toBe(false);
          if (!isIn) continue;
          waiting.push({ bytes: one, length, trafficClass });
          bytes += length + 64;
          continue;
        }
        const next = waiting.shift();
        expect(taker.take(taken, AT, PATH)).toBe(next !== undefined);
        if (next === undefined) continue;
        bytes -= next.length + 64;
        expect([taker.length, taker.trafficClass]).toEqual([next.length, next.trafficClass]);
        const path = Buffer.compare(
          taken.subarray(PATH, PATH_LENGTH),
          next.bytes.subarray(PATH, PATH_LENGTH),
        );
        const rest = Buffer.compare(taken.subarray(AT, AT + next.length), next.bytes.subarray(AT));
        expect([path, rest]).toEqual([0, 0]);
      }
    }),
    { numRuns: 60 },
  );
});
