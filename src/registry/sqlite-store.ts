// The embedded store: SQLite in WAL mode with synchronous FULL, one writer, one process. A transaction that resolved
// survives any crash; one that was cut off happened wholly or not at all, so callers' writes must be idempotent.
// What is asked for at the same time is committed together (group-commit.ts); the file is locked while the store is open.

import { randomUUID } from 'node:crypto';
import type { DatabaseSync } from 'node:sqlite';
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
import { GroupCommit, Refusal } from './group-commit.ts';
import { RangeCache } from './range-cache.ts';
import {
  blob,
  cannotOpen,
  copyDatabase,
  entryOf,
  integer,
  migrate,
  openDatabase,
  prepareStatements,
  type Row,
  type Statements,
  text,
} from './sqlite-schema.ts';
import {
  checkTransaction,
  type Decide,
  originOf,
  type Store,
  type StoreOrigin,
  type TransactResult,
} from './store.ts';
import { LeaseTimers } from './store-leases.ts';
import { WatchHub } from './store-watch.ts';

export interface SqliteStoreOptions {
  readonly path: string;
  /** Milliseconds on a monotonic clock, for leases. */
  readonly now: () => number;
  /** How many revisions of history a watch can resume from. */
  readonly keepHistory?: number;
}

export class SqliteStore implements Store {
  readonly identity: string;
  readonly origin: StoreOrigin;
  readonly #database: DatabaseSync;
  readonly #keepHistory: number;
  readonly #hub: WatchHub;
  readonly #leases: LeaseTimers;
  readonly #sql: Statements;
  readonly #commits: GroupCommit;
  /** Of what decisions read, the open transaction included. */
  readonly #ranges = new RangeCache();
  /** What is on the disk. */
  #revision: number;
  /** The last that was given out: a transaction that failed uses its revisions up, so that none is ever seen twice. */
  #lastRevision: number;
  /** What the open transaction has done so far. */
  #uncommitted: Batch[] = [];
  #copying: Promise<unknown> = Promise.resolve();
  #compactedRevision: number;
  #open = true;

  /** Opens the store, or creates it. Throws Vl3Error('failed-precondition') when another process has it, or it is damaged. */
  constructor(options: SqliteStoreOptions) {
    let leases: { id: string; ttlMs: number }[];
    this.#keepHistory = options.keepHistory ?? 10_000;
    this.#database = openDatabase(options.path);
    try {
      migrate(this.#database, options.path);
      this.#sql = prepareStatements(this.#database);
      this.identity = text(this.#meta('identity'));
      this.origin = originOf(this.#meta('origin'));
      this.#revision = integer(this.#meta('revision'));
      this.#lastRevision = this.#revision;
      this.#compactedRevision = integer(this.#meta('compacted'));
      leases = this.#sql.leases.all().map(({ id, ttl_ms }) => ({ id: text(id), ttlMs: integer(ttl_ms) }));
    } catch (error) {
      this.#database.close();
      if (error instanceof Vl3Error) throw error;
      const reason = error instanceof Error ? error.message : String(error);
      throw cannotOpen(options.path, `${reason}: it is damaged, restore it from a backup`, error);
    }
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
    this.#commits = new GroupCommit({
      begin: () => this.#begin(),
      commit: () => this.#commit(),
      rollback: () => this.#rollback(),
      failure: cannotWrite,
    });
    this.#leases = new LeaseTimers({ now: options.now, onExpired: (ended) => this.#expire(ended) });
    for (const { id, ttlMs } of leases) this.#leases.add(id, ttlMs);
  }

  async read(ranges: readonly Range[]): Promise<ReadResult> {
    return this.#read(ranges);
  }

  async transact(compares: readonly Compare[], operations: readonly Operation[]): Promise<TransactResult> {
    checkTransaction(compares, operations);
    return await this.#write(() => {
      const succeeded = compares.every((compare) => this.#holds(compare));
      if (succeeded) this.#apply(operations);
      return { succeeded, revision: this.#present };
    });
  }

  async update(reads: readonly Range[], decide: Decide): Promise<number> {
    return await this.#write(() => {
      // What it compares with holds: nothing comes in between.
      const { operations } = decideOrRefuse(() => {
        const plan = decide(this.#read(reads, true));
        checkTransaction(plan.compares, plan.operations);
        return plan;
      });
      this.#apply(operations);
      return this.#present;
    });
  }

  watch(prefix: string, afterRevision: number, signal: AbortSignal): AsyncIterable<Batch> {
    return this.#hub.watch(prefix, afterRevision, signal);
  }

  async grantLease(ttlMs: number): Promise<string> {
    const lease = randomUUID();
    await this.#write(() => this.#sql.addLease.run(lease, Math.ceil(ttlMs)));
    this.#leases.add(lease, ttlMs);
    return lease;
  }

  async keepAlive(lease: string): Promise<boolean> {
    return this.#leases.keepAlive(lease);
  }

  async revokeLease(lease: string): Promise<void> {
    await this.#endLeases([lease]);
    this.#leases.remove(lease);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#open) return;
    this.#open = false;
    await this.#copying;
    this.#commits.flush();
    this.#leases.close();
    this.#hub.close();
    this.#database.close();
  }

  /** Writes a consistent copy over the file, while writes go on; answers the revision that it has at least. */
  async backup(path: string): Promise<number> {
    const revision = this.#revision;
    const copying = copyDatabase(this.#database, path);
    // Closing waits for it.
    this.#copying = Promise.allSettled([this.#copying, copying]);
    try {
      await copying;
      return revision;
    } catch (cause) {
      const reason = cause instanceof Error ? cause.message : String(cause);
      throw new Vl3Error('unavailable', `the store cannot be copied (${reason}): check the disk it is on`, {
        cause,
      });
    }
  }

  #meta(name: string): unknown {
    const { value } = this.#sql.getMeta.get(name) ?? {};
    return value;
  }

  #holds(compare: Compare): boolean {
    if (compare.kind === 'revision-is') {
      const { mod_revision } = this.#sql.get.get(compare.key) ?? { mod_revision: 0 };
      return integer(mod_revision) === compare.revision;
    }
    const { newest } = this.#sql.newest.get(compare.prefix, prefixEnd(compare.prefix)) ?? { newest: null };
    return newest === null || integer(newest) <= compare.revision;
  }

  /** `isShared`: for a decision, which leaves the values as they are; others get their own copies. */
  #read(ranges: readonly Range[], isShared = false): ReadResult {
    const found = new Map<string, Entry>();
    for (const range of ranges) {
      for (const entry of isShared ? this.#cached(range) : this.#rowsOf(range).map(entryOf)) {
        found.set(entry.key, entry);
      }
    }
    return { revision: this.#present, entries: [...found.values()] };
  }

  #cached(range: Range): readonly Entry[] {
    if ('key' in range || range.limit !== undefined) return this.#rowsOf(range).map(entryOf);
    const known = this.#ranges.get(range.prefix);
    if (known !== undefined) return known;
    const entries = this.#rowsOf(range).map(entryOf);
    this.#ranges.set(range.prefix, entries);
    return entries;
  }

  #rowsOf(range: Range): Row[] {
    try {
      return 'key' in range
        ? this.#sql.get.all(range.key)
        : this.#sql.below.all(range.prefix, prefixEnd(range.prefix), range.limit ?? -1);
    } catch (cause) {
      const reason = cause instanceof Error ? cause.message : String(cause);
      throw new Vl3Error('internal', `the store cannot be read (${reason}): restore it from a backup`, {
        cause,
      });
    }
  }

  /** Of what a read finds: inside a transaction, what that has done so far counts. */
  get #present(): number {
    return this.#uncommitted.at(-1)?.revision ?? this.#revision;
  }

  /** All operations at the next revision, if they change anything. Throws a Refusal before it writes. */
  #apply(operations: readonly Operation[]): void {
    for (const operation of operations) {
      if (operation.kind === 'put' && operation.lease !== undefined && !this.#leases.has(operation.lease)) {
        throw new Refusal(new Vl3Error('not-found', `there is no lease ${operation.lease}`));
      }
    }
    const revision = this.#lastRevision + 1;
    const changes: Change[] = [];
    for (const operation of operations) {
      if (operation.kind === 'put') this.#put(operation, revision, changes);
      else {
        const rows =
          operation.kind === 'delete'
            ? this.#sql.get.all(operation.key)
            : this.#sql.below.all(operation.prefix, prefixEnd(operation.prefix), -1);
        for (const row of rows) this.#delete(row, changes);
      }
    }
    this.#record(revision, changes);
  }

  #put(
    { key, value, lease }: Operation & { readonly kind: 'put' },
    revision: number,
    changes: Change[],
  ): void {
    const { create_revision } = this.#sql.get.get(key) ?? { create_revision: revision };
    const createRevision = integer(create_revision);
    this.#sql.put.run(key, value, createRevision, revision, lease ?? null);
    changes.push({ key, value: value.slice(), createRevision });
    this.#ranges.put({ key, value: value.slice(), createRevision, modRevision: revision, lease });
  }

  #delete(row: Row, changes: Change[]): void {
    const { key, createRevision } = entryOf(row);
    this.#sql.delete.run(key);
    this.#ranges.delete(key);
    changes.push({ key, value: undefined, createRevision });
  }

  #record(revision: number, changes: readonly Change[]): void {
    if (changes.length === 0) return;
    this.#lastRevision = revision;
    for (const { key, value, createRevision } of changes) {
      this.#sql.record.run(revision, key, value ?? null, createRevision);
    }
    this.#uncommitted.push({ revision, changes });
  }

  #expire(ended: readonly string[]): void {
    this.#endLeases(ended).catch(() => {
      // The disk is full or failing: the keys stay, and the leases get another term to try again.
      for (const lease of ended) this.#leases.add(lease, 1000);
    });
  }

  #endLeases(ended: readonly string[]): Promise<void> {
    return this.#write(() => {
      const revision = this.#lastRevision + 1;
      const changes: Change[] = [];
      for (const lease of ended) {
        for (const row of this.#sql.ofLease.all(lease)) this.#delete(row, changes);
        this.#sql.dropLease.run(lease);
      }
      this.#record(revision, changes);
    });
  }

  async #write<T>(body: () => T): Promise<T> {
    if (!this.#open) throw new Vl3Error('unavailable', 'the store is closed');
    return await this.#commits.run(body);
  }

  #begin(): void {
    this.#uncommitted = [];
    this.#database.exec('BEGIN IMMEDIATE');
  }

  /** Published only once it is on the disk. */
  #commit(): void {
    const revision = this.#present;
    let compacted = this.#compactedRevision;
    if (this.#uncommitted.length > 0) {
      this.#sql.setMeta.run('revision', revision);
      // In steps of a tenth, so that most transactions have nothing to clear away.
      if (revision - compacted > this.#keepHistory * 1.1) {
        compacted = revision - this.#keepHistory;
        this.#sql.compact.run(compacted);
        this.#sql.setMeta.run('compacted', compacted);
      }
    }
    this.#database.exec('COMMIT');
    const batches = this.#uncommitted;
    this.#uncommitted = [];
    this.#revision = revision;
    this.#compactedRevision = compacted;
    for (const batch of batches) this.#hub.publish(batch);
  }

  #rollback(): void {
    this.#uncommitted = [];
    this.#ranges.clear();
    if (this.#database.isTransaction) this.#database.exec('ROLLBACK');
  }

  #batchesAfter(afterRevision: number, prefix: string): Batch[] {
    const batches: { revision: number; changes: Change[] }[] = [];
    for (const row of this.#sql.historyAfter.iterate(afterRevision, prefix, prefixEnd(prefix))) {
      const { key, value, create_revision, revision: at } = row;
      const revision = integer(at);
      let batch = batches.at(-1);
      if (batch?.revision !== revision) {
        batch = { revision, changes: [] };
        batches.push(batch);
      }
      batch.changes.push({
        key: text(key),
        value: value === null ? undefined : blob(value),
        createRevision: integer(create_revision),
      });
    }
    return batches;
  }
}

const cannotWrite = (cause: unknown): Error => {
  if (cause instanceof Vl3Error) return cause;
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new Vl3Error('unavailable', `the store cannot write (${reason}): check the disk it is on`, {
    cause,
  });
};

const decideOrRefuse = <T>(decide: () => T): T => {
  try {
    return decide();
  } catch (error) {
    throw new Refusal(error);
  }
};
