// The log of decisions as it lies in the store: several chains, told as one, in the order in which its lines were written.

import { keptLines, NO_LOG } from '../../native-free/registry/admission-log.ts';
import { logEntry, logHead, ownLogHead } from '../../native-free/registry/admission-model.ts';
import { all, below, keys, one } from '../../native-free/registry/keys.ts';
import { decodeValue } from '../../native-free/registry/model.ts';
import type { Store } from './store.ts';

export interface StoredLog {
  /** As they were written. */
  readonly lines: readonly Uint8Array[];
  /** What the domain signs of it (admission/exported-log.ts). */
  readonly head: {
    readonly sequence: number;
    readonly hash: string;
    readonly kept: number;
    /** The chains that are somebody's own. */
    readonly logs: readonly { readonly of: string; readonly hash: string; readonly kept: number }[];
  };
}

export const readLog = async (store: Pick<Store, 'read'>): Promise<StoredLog> => {
  const ranges = [one(keys.logHead), ...[below.logHeads, below.logEntries, below.logEntriesOf].map(all)];
  const { entries } = await store.read(ranges);
  const lines: { readonly sequence: number; readonly value: Uint8Array }[] = [];
  const logs: { of: string; hash: string; kept: number }[] = [];
  let head = NO_LOG;
  for (const { key, value } of entries) {
    if (key === keys.logHead) head = decodeValue(logHead, value, key);
    else if (key.startsWith(below.logHeads)) {
      const own = decodeValue(ownLogHead, value, key);
      const of = key.slice(below.logHeads.length);
      logs.push({ of, hash: own.hash, kept: keptLines(of, own.lines) });
    } else lines.push({ sequence: decodeValue(logEntry, value, key).sequence, value });
  }
  lines.sort((a, b) => a.sequence - b.sequence);
  const { sequence, hash, lines: written = sequence } = head;
  return {
    lines: lines.map(({ value }) => value),
    head: { sequence, hash, kept: keptLines(undefined, written), logs },
  };
};
