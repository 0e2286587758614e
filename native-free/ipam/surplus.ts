// Which further prefix a node does not need any more. Slow to give back and quick to keep: a prefix goes only when it has
// been empty for a while and the others have room, so that a workload that comes and goes moves no prefix to and fro.

import type { PrefixUse } from './allocator.ts';
import type { Prefix } from './prefix.ts';

/** How long a further prefix is empty before it is given back. */
export const EMPTY_PREFIX_MS = 10 * 60_000;

/** `uses`: of one family, oldest lease first. The first stays: it has the gateway address, and peers know it. */
export const surplusPrefix = (
  uses: readonly PrefixUse[],
  now: number,
  emptyMs = EMPTY_PREFIX_MS,
): Prefix | undefined => {
  const isEmptyLong = ({ emptySince }: PrefixUse): boolean =>
    emptySince !== undefined && now - emptySince >= emptyMs;
  // The youngest first: the longer a prefix was held, the more of those who knew it are still about.
  for (const candidate of uses.slice(1).reverse().filter(isEmptyLong)) {
    const elsewhere = uses.reduce((sum, one) => (one === candidate ? sum : sum + one.free), 0n);
    // Of an excluded one nothing can be handed out: it is no loss.
    if (candidate.free === 0n || elsewhere * 4n >= candidate.free) return candidate.prefix;
  }
  return undefined;
};
