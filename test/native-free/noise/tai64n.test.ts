import { bytesToHex } from '@noble/hashes/utils.js';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { isAfter, TimestampClock, timestampAt } from '../../../native-free/noise/tai64n.ts';

const NOON = Date.UTC(2030, 0, 1, 12);

test('1970 has the label that wireguard-go gives it', () => {
  expect(bytesToHex(timestampAt(0))).toBe('400000000000000a00000000');
});

test('nanoseconds are whitened to 2^24', () => {
  const fraction = new DataView(timestampAt(NOON + 999).buffer).getUint32(8);
  expect(fraction % 2 ** 24).toBe(0);
  expect(fraction).toBeGreaterThan(999e6 - 2 ** 24);
  expect(timestampAt(NOON)).toEqual(timestampAt(NOON + 16));
  expect(timestampAt(NOON)).not.toEqual(timestampAt(NOON + 17));
});

test('timestamps sort as times do', () => {
  fc.assert(
    fc.property(fc.nat(2 ** 44), fc.nat(2 ** 44), (a, b) => {
      if (Math.abs(a - b) >= 17) expect(isAfter(timestampAt(a), timestampAt(b))).toBe(a > b);
      expect(isAfter(timestampAt(a), timestampAt(a))).toBe(false);
    }),
  );
});

test('whatever the wall clock does, a peer sees strictly greater timestamps, restarts included', () => {
  const wallclock = fc.nat(2 ** 42);
  const step = fc.oneof(
    fc.record({ kind: fc.constant('send' as const), peer: fc.nat(2), wallclock }),
    fc.record({ kind: fc.constant('restart' as const) }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      let clock = new TimestampClock();
      let known = new Map<number, Uint8Array>();
      const seen = new Map<number, Uint8Array>();
      for (const one of steps) {
        if (one.kind === 'restart') {
          clock = new TimestampClock(clock.highWaterMark);
          known = new Map();
          continue;
        }
        const timestamp = clock.next(one.wallclock, known.get(one.peer));
        const before = seen.get(one.peer);
        if (before !== undefined) expect(isAfter(timestamp, before)).toBe(true);
        known.set(one.peer, timestamp);
        seen.set(one.peer, timestamp);
      }
    }),
  );
});

test('a thousand peers that stay silent do not push the mark ahead of the clock', () => {
  const clock = new TimestampClock();
  const sent = new Map<number, Uint8Array>();
  for (let second = 0; second < 600; second += 5)
    for (let peer = 0; peer < 1000; peer++) sent.set(peer, clock.next(NOON + second * 1000, sent.get(peer)));
  expect(isAfter(clock.highWaterMark, timestampAt(NOON + 620_000))).toBe(false);
});

test('a mark saved some time before a crash is good enough, even with the clock gone back', () => {
  const clock = new TimestampClock();
  const saved = new TimestampClock(timestampAt(NOON)).highWaterMark;
  let last = clock.next(NOON, undefined);
  for (let i = 0; i < 1000; i++) last = clock.next(NOON - 3_600_000, last);
  const restored = new TimestampClock(saved);
  expect(isAfter(restored.next(NOON - 3_600_000, undefined), last)).toBe(true);
});

test('a restored mark leaves a right clock alone', () => {
  const restored = new TimestampClock(timestampAt(NOON));
  expect(restored.next(NOON + 1000, undefined)).toEqual(timestampAt(NOON + 1000));
});

test('a mark of another length is refused', () => {
  expect(() => new TimestampClock(new Uint8Array(11))).toThrow('a timestamp has 12 bytes, not 11');
});
