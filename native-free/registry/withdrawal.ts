// A node's record goes when it names a prefix that is the node's no more: nobody shall route by it. A tombstone of its
// sequence says so to those who hold it, and lets every later record stand.

import { keys } from './keys.ts';
import { tombstone as tombstoneSchema } from './model.ts';
import { put } from './rules.ts';
import type { State } from './state.ts';
import type { Operation } from './transaction.ts';

/** The operations; none when the record names none of `prefixes`. Reads the record and the tombstone. */
export const withdrawal = (
  state: State,
  network: string,
  node: string,
  prefixes: readonly string[],
  now: number,
): Operation[] => {
  const record = state.record(network, node)?.value;
  if (record === undefined || !record.prefixes.some(({ prefix }) => prefixes.includes(prefix))) return [];
  const buried = state.tombstone(network, node)?.value.recordSequence ?? 0;
  const recordSequence = Math.max(record.sequence, buried);
  return [
    { kind: 'delete', key: keys.record(network, node) },
    put(keys.tombstone(network, node), tombstoneSchema, { network, node, removedAt: now, recordSequence }),
  ];
};
