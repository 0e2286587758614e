// Refusals that get no line of the log of their own, since the same was refused lately or too much was: they are counted, for each
// network and whose nodes they are of, and told in one line an hour.

import { LogWriter, NO_LOG } from './admission-log.ts';
import { type RefusalTally, refusalTally } from './admission-model.ts';
import { all, below, keys, one } from './keys.ts';
import { put, type Rule, settled } from './rules.ts';
import type { Operation } from './transaction.ts';

const TOLD_EVERY_MS = 60 * 60 * 1000;
/** In one transaction. */
const MAX_TOLD = 16;

/** What counting adds to a transaction. */
export const counting = (
  before: RefusalTally | undefined,
  { network, of, count }: { readonly network: string; readonly of: string; readonly count: number },
  now: number,
): Operation[] =>
  count === 0
    ? []
    : [
        put(keys.refusals(network, of), refusalTally, {
          ...{ network, of, since: before?.since ?? now, until: now },
          count: (before?.count ?? 0) + count,
        }),
      ];

/** Writes down what was counted for an hour or more. Answers whether there may be more of it. */
export const tellRefusals = (trustDomain: string, now: number): Rule<boolean> => ({
  reads: [one(keys.logHead), all(below.refusals), all(below.logHeads)],
  decide: (state) => {
    const due = state.refusals().filter(({ value }) => value.since + TOLD_EVERY_MS <= now);
    const [first] = due;
    if (first === undefined) return settled(false);
    // One log at a time.
    const { of } = first.value;
    const told = due.filter(({ value }) => value.of === of).slice(0, MAX_TOLD);
    const log = new LogWriter(state.logHead()?.value ?? NO_LOG, now, of, state.logHeadOf(of)?.value);
    for (const { value } of told) {
      const { network, count, since, until } = value;
      const whose = of.startsWith('@') ? trustDomain : of;
      log.add({ kind: 'refused-again', network, trustDomain: whose, count, since, until });
    }
    return {
      compares: [state.unchanged(keys.logHead), ...told.map(({ key }) => state.unchanged(key))],
      operations: [...told.map(({ key }) => ({ kind: 'delete', key }) as const), ...log.operations],
      answer: due.length > told.length,
    };
  },
});
