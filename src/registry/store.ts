// The registry's only memory, shaped like etcd's: read ranges, compare-and-swap, watch from a revision, leases.
// Implementations: sqlite-store.ts (the default), memory-store.ts (its twin). Every one passes test/contract/store.ts.
// Atomicity lives inside these methods; policy lives in native-free/registry.

import { z } from 'zod';
import { Vl3Error } from '../../native-free/error.ts';
import type { Batch, Compare, Operation, Range, ReadResult } from '../../native-free/registry/transaction.ts';
import { MAX_OPERATIONS } from '../../native-free/registry/transaction.ts';

export interface Store extends AsyncDisposable {
  /** Made at random when the store was created: revisions of another store mean nothing here. */
  readonly identity: string;

  /** How the store came to be. */
  readonly origin: StoreOrigin;

  /** All ranges at one revision. */
  read(ranges: readonly Range[]): Promise<ReadResult>;

  /**
   * All operations at one new revision if every compare holds, else none. Durable once it resolves. A transaction that
   * changes nothing makes no revision. Throws Vl3Error('invalid-argument') past MAX_OPERATIONS or when two operations
   * touch one key, 'not-found' for an unknown lease, 'unavailable' when the store cannot write.
   */
  transact(compares: readonly Compare[], operations: readonly Operation[]): Promise<TransactResult>;

  /**
   * Reads the ranges, decides, and writes what was decided as one step: between the read and the write nothing changes,
   * or `decide`, which must be pure, is asked again. Resolves with the store's revision once that and everything that was
   * read is durable. What `decide` throws comes out as it is, and nothing is written. Otherwise throws as `transact` does,
   * and Vl3Error('aborted') when others win every time.
   */
  update(reads: readonly Range[], decide: Decide): Promise<number>;

  /**
   * Every batch below the prefix after a revision, in order, without a gap; ends quietly when the signal aborts.
   * Throws CompactedError when it cannot: then read anew.
   */
  watch(prefix: string, afterRevision: number, signal: AbortSignal): AsyncIterable<Batch>;

  /** Keys put with the lease go when it ends. A store that was down gives every lease its full term again. */
  grantLease(ttlMs: number): Promise<string>;
  /** Starts the term anew. False: the lease is gone. */
  keepAlive(lease: string): Promise<boolean>;
  /** Ends the lease and deletes its keys. */
  revokeLease(lease: string): Promise<void>;
}

/** What to write, from what was read, and under which conditions it still holds. No operations: nothing. */
export type Decide = (found: ReadResult) => {
  readonly compares: readonly Compare[];
  readonly operations: readonly Operation[];
};

export type StoreOrigin =
  | { readonly kind: 'created' }
  | {
      readonly kind: 'restored';
      /** When, and of which store and revision; milliseconds since the epoch. */
      readonly at: number;
      readonly fromIdentity: string;
      readonly fromRevision: number;
    };

export interface TransactResult {
  readonly succeeded: boolean;
  /** The store's revision afterwards. */
  readonly revision: number;
}

/** The history asked for is gone, was never written here, or the watcher fell too far behind. */
export class CompactedError extends Error {
  readonly code = 'compacted';

  constructor(message: string) {
    super(message);
    this.name = 'CompactedError';
  }
}

const KEY = /^\/[!-~]{0,511}$/;

/** What every implementation refuses before it looks at its data. */
export const checkTransaction = (compares: readonly Compare[], operations: readonly Operation[]): void => {
  if (compares.length > MAX_OPERATIONS || operations.length > MAX_OPERATIONS) {
    throw new Vl3Error('invalid-argument', `a transaction holds at most ${MAX_OPERATIONS} operations`);
  }
  const keys = new Set<string>();
  const prefixes: string[] = [];
  for (const operation of operations) {
    const key = operation.kind === 'delete-prefix' ? operation.prefix : operation.key;
    if (!KEY.test(key)) throw new Vl3Error('invalid-argument', `"${key}" cannot be a key of the store`);
    if (operation.kind === 'delete-prefix') prefixes.push(key);
    else if (keys.has(key)) throw new Vl3Error('invalid-argument', `two operations touch the key ${key}`);
    else keys.add(key);
  }
  for (const prefix of prefixes) {
    for (const key of keys) {
      if (key.startsWith(prefix))
        throw new Vl3Error('invalid-argument', `two operations touch the key ${key}`);
    }
  }
};

/** Reads what a restored store says of itself. */
export const originOf = (meta: unknown): StoreOrigin => {
  if (meta === undefined) return { kind: 'created' };
  return restored.parse(JSON.parse(String(meta)));
};

const restored = z.strictObject({
  kind: z.literal('restored'),
  at: z.number().int(),
  fromIdentity: z.string(),
  fromRevision: z.number().int(),
});
