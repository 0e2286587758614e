// What a registry leases: the next free prefix of a pool. Who may have it, and that nobody else takes it meanwhile, is
// native-free/registry/lease-rules.ts. What a node does with its prefix is allocator.ts.

import { gatewayOf } from './gateway.ts';
import {
  familyBits,
  type Prefix,
  prefixAround,
  prefixContains,
  prefixCovers,
  prefixesOverlap,
  prefixSize,
} from './prefix.ts';

export interface PrefixRequest {
  readonly pool: Prefix;
  /** Of the prefix wanted. */
  readonly length: number;
  /** A prefix wholly inside one of these is never leased, nor one whose gateway address is in one. */
  readonly excluded: readonly Prefix[];
  /** All leases of the pool's family. */
  readonly leased: readonly Prefix[];
  /** Given back lately: leased again only when nothing else is free. */
  readonly resting?: readonly Prefix[];
}

/**
 * The first free prefix past the highest lease, or, when the pool's end is reached, the first free one at all: what was
 * given back rests for as long as there is anything else. Undefined when nothing is free. The time it takes goes with
 * the number of leases and exclusions, not with the size of the pool.
 */
export const choosePrefix = (request: PrefixRequest): Prefix | undefined => {
  const { pool, length, excluded, leased, resting = [] } = request;
  if (length < pool.length || length > familyBits(pool.family)) return undefined;
  const inPool = (prefix: Prefix): boolean => prefixesOverlap(pool, prefix);
  const taken = [
    ...leased.filter(inPool),
    ...excluded.filter(inPool).flatMap((range) => blockedBy(range, length)),
  ];
  const highest = leased
    .filter((prefix) => prefixCovers(pool, prefix))
    .map((prefix) => prefix.value + prefixSize(prefix))
    .reduce((a, b) => (a > b ? a : b), pool.value);
  const untouched = [...taken, ...resting.filter(inPool)].sort(byValue);
  return (
    firstFree(pool, length, untouched, highest) ??
    firstFree(pool, length, untouched, pool.value) ??
    firstFree(pool, length, taken.sort(byValue), pool.value)
  );
};

const byValue = (a: Prefix, b: Prefix): number => (a.value < b.value ? -1 : a.value > b.value ? 1 : 0);

/** The candidates of this length that an excluded range takes: those inside it, or the one whose gateway it holds. */
const blockedBy = (range: Prefix, length: number): Prefix[] => {
  if (range.length <= length) return [range];
  const candidate = prefixAround(range, length);
  return prefixContains(range, gatewayOf(candidate)) ? [candidate] : [];
};

/** The first candidate from `start` on that overlaps none of `taken`, which are sorted by value. */
const firstFree = (
  pool: Prefix,
  length: number,
  taken: readonly Prefix[],
  start: bigint,
): Prefix | undefined => {
  const size = prefixSize({ ...pool, length });
  const aligned = (value: bigint): bigint => ((value + size - 1n) / size) * size;
  let value = aligned(start);
  for (const prefix of taken) {
    if (value + size <= prefix.value) break;
    const end = prefix.value + prefixSize(prefix);
    if (end > value) value = aligned(end);
  }
  return value + size <= pool.value + prefixSize(pool) ? { family: pool.family, value, length } : undefined;
};
