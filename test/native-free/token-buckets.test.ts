import fc from 'fast-check';
import { expect, test } from 'vitest';
import { TokenBuckets } from '../../native-free/token-buckets.ts';

test('a burst passes, then as many as come in a second, and nobody pays for another', () => {
  const buckets = new TokenBuckets({ perSecond: 10, burst: 5 });
  const taken = (name: string, now: number, times: number): number =>
    Array.from({ length: times }, () => buckets.take(name, now)).filter(Boolean).length;
  expect(taken('a', 0, 100)).toBe(5);
  expect(taken('b', 0, 3)).toBe(3);
  expect(taken('a', 99, 1)).toBe(0);
  expect(taken('a', 200, 100)).toBe(2);
  expect(taken('a', 60_000, 100)).toBe(5);
});

test('what was worth more is owed, for no longer than a bucket takes to fill, and nobody else pays', () => {
  const buckets = new TokenBuckets({ perSecond: 10, burst: 5 });
  expect(buckets.take('a', 0)).toBe(true);
  buckets.charge('a', 0, 6);
  // Four were saved: two are owed, and one more is wanted.
  for (const [now, mayDo] of [
    [0, false],
    [200, false],
    [299, false],
    [300, true],
    [301, false],
  ] as const)
    expect(buckets.take('a', now)).toBe(mayDo);
  expect(buckets.take('b', 301)).toBe(true);
  buckets.charge('a', 400, 1_000_000);
  buckets.charge('a', 400, 1_000_000);
  expect(buckets.take('a', 900)).toBe(false);
  expect(buckets.take('a', 1000)).toBe(true);
  buckets.charge('c', 1000, 2);
  expect([0, 0, 0, 0].map(() => buckets.take('c', 1000))).toEqual([true, true, true, false]);
});

test('those who have not asked for long are forgotten', () => {
  const buckets = new TokenBuckets({ perSecond: 10, burst: 5 });
  for (let i = 0; i < 1000; i++) buckets.take(`n${i}`, i);
  expect(buckets.size).toBeLessThanOrEqual(501);
  buckets.take('last', 10_000);
  expect(buckets.size).toBe(1);
});

test('whenever one asks, no more pass in any time than the burst and the rate allow', () => {
  const pauses = fc.array(fc.nat(400), { minLength: 1, maxLength: 200 });
  fc.assert(
    fc.property(
      pauses,
      fc.integer({ min: 1, max: 50 }),
      fc.integer({ min: 1, max: 20 }),
      (waits, perSecond, burst) => {
        const buckets = new TokenBuckets({ perSecond, burst });
        const passed: number[] = [];
        let now = 0;
        for (const wait of waits) {
          now += wait;
          if (buckets.take('a', now)) passed.push(now);
        }
        expect(passed.length).toBeGreaterThan(0);
        for (const [i, from] of passed.entries())
          for (const [j, to] of passed.entries())
            if (j >= i)
              expect(j - i + 1).toBeLessThanOrEqual(burst + ((to - from) * perSecond) / 1000 + 1e-6);
      },
    ),
  );
});
