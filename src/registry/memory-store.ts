// The store's in-memory twin: for tests, and the readable statement of what every store does. Nothing survives it.

import { Vl3Error } from '../../native-free/error.ts';
import {
  type Batch,
  type Change,
  type Compare,
  type Entry,
  type Operation,
  prefixEnd,
  type Range,
  type ReadResult,
} from '../../native-free/registry/transaction.ts';
import { checkTransaction, type Store, type TransactResult } from './store.ts';
import { LeaseTimers } from './store-leases.ts';
import { WatchHub } from './store-watch.ts';

export interface MemoryStoreOptions {
  readonly identity: string;
  readonly now: () => number;
  /** How many batches of history a watch can resume from. */
  readonly keepHistory?: number;
}

export class MemoryStore implements Store {
  readonly identity: string;
  readonly #entries = new Map<string, Entry>();
  #history: Batch[] = [];
  readonly #keepHistory: number;
  readonly #hub: WatchHub;
  readonly #leases: LeaseTimers;
  #nextLease = 1;
  #revision = 0;
  #compactedRevision = 0;

  constructor(options: MemoryStoreOptions) {
    this.identity = options.identity;
    this.#keepHistory = options.keepHistory ?? 10_000;
    const store = this;
    this.#hub = new WatchHub({
      get revision() {
        return store.#revision;
      },
      get compactedRevision() {
        return store.#compactedRevision;
      },
      batchesAfter: (revision, prefix) => this.#batchesAfter(revision, prefix),
    });
    this.#leases = new LeaseTimers({ now: options.now, onExpired: (ended) => this.#endLeases(ended) });
  }

  async read(ranges: readonly Range[]): Promise<ReadResult> {
    const found = new Map<string, Entry>();
    for (const range of ranges) {
      if ('key' in range) {
        const entry = this.#entries.get(range.key);
        if (entry !== undefined) found.set(entry.key, entry);
      } else {
        const below = this.#below(range.prefix).sort((a, b) => (a.key < b.key ? -1 : 1));
        for (const entry of below.slice(0, range.limit)) found.set(entry.key, entry);
      }
    }
    return { revision: this.#revision, entries: [...found.values()] };
  }

  async transact(compares: readonly Compare[], operations: readonly Operation[]): Promise<TransactResult> {
    checkTransaction(compares, operations);
    if (!compares.every((compare) => this.#holds(compare)))
      return { succeeded: false, revision: this.#revision };
    for (const operation of operations) {
      if (operation.kind === 'put' && operation.lease !== undefined && !this.#leases.has(operation.lease)) {
        throw new Vl3Error('not-found', `there is no lease ${operation.lease}`);
      }
    }
    const revision = this.#revision + 1;
    const changes: Change[] = [];
    for (const operation of operations) {
      if (operation.kind === 'put') {
        const createRevision = this.#entries.get(operation.key)?.createRevision ?? revision;
        const value = operation.value.slice();
        this.#entries.set(operation.key, {
          key: operation.key,
          value,
          createRevision,
          modRevision: revision,
          lease: operation.lease,
        });
        changes.push({ key: operation.key, value, createRevision });
      } else {
        const doomed =
          operation.kind === 'delete' ? [operation.key] : this.#below(operation.prefix).map(({ key }) => key);
        for (const key of doomed) this.#delete(key, changes);
      }
    }
    this.#commit(revision, changes);
    return { succeeded: true, revision: this.#revision };
  }

  watch(prefix: string, afterRevision: number, signal: AbortSignal): AsyncIterable<Batch> {
    return this.#hub.watch(prefix, afterRevision, signal);
  }

  async grantLease(ttlMs: number): Promise<string> {
    const lease = String(this.#nextLease++);
    this.#leases.add(lease, ttlMs);
    return lease;
  }

  async keepAlive(lease: string): Promise<boolean> {
    return this.#leases.keepAlive(lease);
  }

  async revokeLease(lease: string): Promise<void> {
    this.#leases.remove(lease);
    this.#endLeases([lease]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#leases.close();
    this.#hub.close();
  }

  #below(prefix: string): Entry[] {
    const end = prefixEnd(prefix);
    return [...this.#entries.values()].filter(({ key }) => key >= prefix && key < end);
  }

  #holds(compare: Compare): boolean {
    return compare.kind === 'revision-is'
      ? (this.#entries.get(compare.key)?.modRevision ?? 0) === compare.revision
      : this.#below(compare.prefix).every((entry) => entry.modRevision <= compare.revision);
  }

  #delete(key: string, changes: Change[]): void {
    const entry = this.#entries.get(key);
    if (entry === undefined) return;
    this.#entries.delete(key);
    changes.push({ key, value: undefined, createRevision: entry.createRevision });
  }

  #endLeases(ended: readonly string[]): void {
    const changes: Change[] = [];
    for (const entry of [...this.#entries.values()]) {
      if (entry.lease !== undefined && ended.includes(entry.lease)) this.#delete(entry.key, changes);
    }
    this.#commit(this.#revision + 1, changes);
  }

  #commit(revision: number, changes: Change[]): void {
    if (changes.length === 0) return;
    this.#revision = revision;
    this.#history.push({ revision, changes });
    if (this.#history.length > this.#keepHistory) {
      const gone = this.#history.length - this.#keepHistory;
      this.#compactedRevision = this.#history[gone - 1]?.revision ?? this.#compactedRevision;
      this.#history = this.#history.slice(gone);
    }
    this.#hub.publish({ revision, changes });
  }

  #batchesAfter(revision: number, prefix: string): Batch[] {
    return this.#history
      .filter((batch) => batch.revision > revision)
      .map((batch) => ({ ...batch, changes: batch.changes.filter(({ key }) => key.startsWith(prefix)) }))
      .filter((batch) => batch.changes.length > 0);
  }
}
