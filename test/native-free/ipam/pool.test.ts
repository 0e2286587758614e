import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { choosePrefix, type PrefixRequest } from '../../../native-free/ipam/pool.ts';
import {
  familyBits,
  formatPrefix,
  type Prefix,
  parsePrefix,
  prefixContains,
  prefixCovers,
  prefixesOverlap,
  prefixSize,
} from '../../../native-free/ipam/prefix.ts';

/** The slow twin: every candidate of the pool is looked at. */
const slowChoice = ({ pool, length, excluded, leased, resting = [] }: PrefixRequest): Prefix | undefined => {
  const size = 1n << BigInt(familyBits(pool.family) - length);
  const candidates: Prefix[] = [];
  for (let value = pool.value; value + size <= pool.value + prefixSize(pool); value += size)
    candidates.push({ family: pool.family, value, length });
  const free = candidates.filter(
    (one) =>
      !leased.some((lease) => prefixesOverlap(lease, one)) &&
      !excluded.some(
        (range) =>
          prefixCovers(range, one) || prefixContains(range, { family: one.family, value: one.value + 1n }),
      ),
  );
  const rested = free.filter((one) => !resting.some((prefix) => prefixesOverlap(prefix, one)));
  const ends = leased
    .filter((lease) => prefixCovers(pool, lease))
    .map((lease) => lease.value + prefixSize(lease));
  return rested.find((one) => ends.every((end) => one.value >= end)) ?? rested[0] ?? free[0];
};

const pool4 = parsePrefix('10.60.0.0/24');
const pool6 = parsePrefix('fd00:60::/120');
const inside = (pool: Prefix) =>
  fc
    .tuple(fc.bigInt({ min: 0n, max: prefixSize(pool) - 1n }), fc.integer({ min: 1, max: 8 }))
    .map(([offset, extra]): Prefix => {
      const length = pool.length + extra;
      const host = BigInt(familyBits(pool.family) - length);
      return { family: pool.family, value: ((pool.value + offset) >> host) << host, length };
    });

const request = fc.constantFrom(pool4, pool6).chain((pool) =>
  fc.record<PrefixRequest>({
    pool: fc.constant(pool),
    length: fc.integer({ min: pool.length, max: pool.length + 6 }),
    excluded: fc.array(inside(pool), { maxLength: 4 }),
    leased: fc.array(inside(pool), { maxLength: 12 }),
    resting: fc.array(inside(pool), { maxLength: 3 }),
  }),
);

const choose = (pool: string, length: number, leased: string[], more: Partial<PrefixRequest> = {}) => {
  const chosen = choosePrefix({
    pool: parsePrefix(pool),
    length,
    excluded: [],
    leased: leased.map(parsePrefix),
    ...more,
  });
  return chosen === undefined ? undefined : formatPrefix(chosen);
};

describe('a pool', () => {
  it('leases what a look at every candidate would choose', () => {
    fc.assert(
      fc.property(request, (asked) => {
        expect(choosePrefix(asked)).toEqual(slowChoice(asked));
      }),
      { numRuns: 1000 },
    );
  });

  it('never leases the same twice, until all of it is leased', () => {
    const leased: string[] = [];
    for (let i = 0; i < 16; i++) leased.push(choose('10.60.0.0/20', 24, leased) ?? 'none');
    expect(new Set(leased).size).toBe(16);
    expect(leased).not.toContain('none');
    expect(choose('10.60.0.0/20', 24, leased)).toBeUndefined();
  });

  it('goes on past the highest lease, and starts over at its end', () => {
    expect(choose('10.60.0.0/16', 24, ['10.60.7.0/24'])).toBe('10.60.8.0/24');
    expect(choose('10.60.0.0/16', 24, ['10.60.255.0/24'])).toBe('10.60.0.0/24');
  });

  it('leases a prefix that was given back lately only when nothing else is free', () => {
    const resting = [parsePrefix('10.60.2.0/24')];
    expect(choose('10.60.0.0/22', 24, ['10.60.1.0/24'], { resting })).toBe('10.60.3.0/24');
    expect(choose('10.60.0.0/22', 24, ['10.60.1.0/24', '10.60.3.0/24'], { resting })).toBe('10.60.0.0/24');
    const all = ['10.60.0.0/24', '10.60.1.0/24', '10.60.3.0/24'];
    expect(choose('10.60.0.0/22', 24, all, { resting })).toBe('10.60.2.0/24');
  });

  it('leases no prefix inside an excluded one, nor one whose gateway address is excluded', () => {
    const excluded = ['10.60.0.0/23', '10.60.2.0/28', '10.60.3.128/25'].map(parsePrefix);
    expect(choose('10.60.0.0/16', 24, [], { excluded })).toBe('10.60.3.0/24');
  });

  it('finds its way past millions of excluded candidates at once', () => {
    expect(choose('fd00::/16', 112, ['fd00::/112'], { excluded: [parsePrefix('fd00::/17')] })).toBe(
      'fd00:8000::/112',
    );
  });

  it('has no prefix shorter than itself', () => {
    expect(choose('10.60.0.0/24', 16, [])).toBeUndefined();
    expect(choose('10.60.0.0/24', 33, [])).toBeUndefined();
  });
});
