// The store's in-memory twin: for tests, and the readable statement of what every store does. Nothing survives it.

import { Vl3Error } from '../../native-free/error.ts';
import { KeySpace, type Prepared } from '../../native-free/registry/key-space.ts';
import type { Batch, Compare, Operation, Range, ReadResult } from '../../native-free/registry/transaction.ts';
import { checkTransaction, type Decide, type Store, type TransactResult } from './store.ts';
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
  readonly origin = { kind: 'created' } as const;
  readonly #keys: KeySpace;
  readonly #hub: WatchHub;
  readonly #leases: LeaseTimers;
  #nextLease = 1;

  constructor(options: MemoryStoreOptions) {
    this.identity = options.identity;
    this.#keys = new KeySpace({ keepHistory: options.keepHistory ?? 10_000 });
    this.#hub = new WatchHub(this.#keys);
    this.#leases = new LeaseTimers({ now: options.now, onExpired: (ended) => this.#endLeases(ended) });
  }

  async read(ranges: readonly Range[]): Promise<ReadResult> {
    return this.#keys.read(ranges);
  }

  async transact(compares: readonly Compare[], operations: readonly Operation[]): Promise<TransactResult> {
    checkTransaction(compares, operations);
    if (!compares.every((compare) => this.#keys.holds(compare)))
      return { succeeded: false, revision: this.#keys.revision };
    for (const operation of operations) {
      if (operation.kind === 'put' && operation.lease !== undefined && !this.#leases.has(operation.lease)) {
        throw new Vl3Error('not-found', `there is no lease ${operation.lease}`);
      }
    }
    this.#commit(this.#keys.prepare(operations));
    return { succeeded: true, revision: this.#keys.revision };
  }

  async update(reads: readonly Range[], decide: Decide): Promise<number> {
    const { compares, operations } = decide(this.#keys.read(reads));
    const { succeeded, revision } = await this.transact(compares, operations);
    // In one turn of the event loop: only a plan that contradicts what it was made from can fail.
    if (!succeeded) throw new Vl3Error('internal', 'a decision compares with what it did not read');
    return revision;
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

  #endLeases(ended: readonly string[]): void {
    this.#commit(this.#keys.prepareEnd(ended));
  }

  #commit(prepared: Prepared | undefined): void {
    if (prepared === undefined) return;
    this.#keys.install(prepared);
    this.#hub.publish(prepared.batch);
  }
}
