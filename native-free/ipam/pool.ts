// What a registry leases: the next free prefix of a pool. Who may have it, and that nobody else takes it meanwhile, is
// native-free/registry/lease-rules.ts. What a node does with its prefix is allocator.ts.

import { familyBits, type Prefix, prefixCovers } from './prefix.ts';

export interface PrefixRequest {
  readonly pool: Prefix;
  /** Of the prefix wanted. */
  readonly length: number;
  /** A prefix wholly inside one of these is never leased; one that only has a part excluded is. */
  readonly excluded: readonly Prefix[];
  /** All leases of the pool's family. */
  readonly leased: readonly Prefix[];
}

/**
 * The first free prefix past the highest lease, or, when the pool's end is reached, the first free one at all: what was
 * given back rests for as long as there is anything else. Undefined when nothing is free.
 */
export const choosePrefix = ({ pool, length, excluded, leased }: PrefixRequest): Prefix | undefined => {
  if (length < pool.length) return undefined;
  const size = 1n << BigInt(familyBits(pool.family) - length);
  const poolEnd = pool.value + (1n << BigInt(familyBits(pool.family) - pool.length));
  const blocked = [
    ...leased.filter((prefix) => prefixCovers(pool, prefix)),
    // One that is shorter than what is wanted, or as long, covers whole candidates; a longer one only parts.
    ...excluded.filter((prefix) => prefix.family === pool.family && prefix.length <= length),
  ].sort((a, b) => (a.value < b.value ? -1 : a.value > b.value ? 1 : 0));
  const firstFrom = (start: bigint): Prefix | undefined => {
    let candidate = start;
    for (const prefix of blocked) {
      if (candidate + size <= prefix.value) break;
      const end = prefix.value + (1n << BigInt(familyBits(prefix.family) - prefix.length));
      if (end > candidate) candidate = ((end + size - 1n) / size) * size;
    }
    return candidate + size <= poolEnd ? { family: pool.family, value: candidate, length } : undefined;
  };
  let highest = pool.value;
  for (const prefix of leased) {
    if (!prefixCovers(pool, prefix)) continue;
    const end = prefix.value + (1n << BigInt(familyBits(prefix.family) - prefix.length));
    if (end > highest) highest = end;
  }
  return firstFrom(((highest + size - 1n) / size) * size) ?? firstFrom(pool.value);
};
