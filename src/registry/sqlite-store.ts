// The embedded store: SQLite in WAL mode with synchronous FULL, one writer, one process. A transaction that resolved
// survives any crash; one that was cut off happened wholly or not at all, so callers' writes must be idempotent.
// Calls are synchronous inside (0.1 ms a transaction); the file is locked for as long as the store is open.

import { randomUUID } from 'node:crypto';
import { closeSync, openSync } from 'node:fs';
import { DatabaseSync, type StatementSync } from 'node:sqlite';
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

export interface SqliteStoreOptions {
  readonly path: string;
  /** Milliseconds on a monotonic clock, for leases. */
  readonly now: () => number;
  /** How many revisions of history a watch can resume from. */
  readonly keepHistory?: number;
}

const SCHEMA_VERSION = 1;
const SCHEMA = `
  CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
  CREATE TABLE entries (
    key TEXT PRIMARY KEY, value BLOB NOT NULL,
    create_revision INTEGER NOT NULL, mod_revision INTEGER NOT NULL, lease TEXT
  ) WITHOUT ROWID;
  CREATE INDEX entries_lease ON entries (lease) WHERE lease IS NOT NULL;
  CREATE TABLE history (
    revision INTEGER NOT NULL, key TEXT NOT NULL, value BLOB, create_revision INTEGER NOT NULL,
    PRIMARY KEY (revision, key)
  ) WITHOUT ROWID;
  CREATE TABLE leases (id TEXT PRIMARY KEY, ttl_ms INTEGER NOT NULL) WITHOUT ROWID;
`;

type Row = Record<string, unknown>;

const text = (value: unknown): string => {
  if (typeof value !== 'string') throw new Vl3Error('internal', 'the store holds a malformed row');
  return value;
};
const integer = (value: unknown): number => {
  if (typeof value !== 'number') throw new Vl3Error('internal', 'the store holds a malformed row');
  return value;
};
const blob = (value: unknown): Uint8Array => {
  if (!(value instanceof Uint8Array)) throw new Vl3Error('internal', 'the store holds a malformed row');
  return value;
};

const entryOf = ({ key, value, create_revision, mod_revision, lease }: Row): Entry => ({
  key: text(key),
  value: blob(value),
  createRevision: integer(create_revision),
  modRevision: integer(mod_revision),
  lease: lease === null ? undefined : text(lease),
});

const openDatabase = (path: string): DatabaseSync => {
  try {
    closeSync(openSync(path, 'a', 0o600));
    const database = new DatabaseSync(path, { timeout: 0 });
    database.exec('PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;');
    // Takes the lock at once, so that a second registry fails here and not at its first write.
    database.exec('BEGIN IMMEDIATE; COMMIT;');
    return database;
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    const remedy = /lock/i.test(reason)
      ? 'another registry has it open: stop that one, or use another --state-dir'
      : `${reason}: is the directory there and writable, and the file a store of vl3?`;
    throw cannotOpen(path, remedy, cause);
  }
};

const cannotOpen = (path: string, why: string, cause: unknown): Vl3Error =>
  new Vl3Error('failed-precondition', `cannot open the store ${path}: ${why}`, { cause });

export class SqliteStore implements Store {
  readonly identity: string;
  readonly #database: DatabaseSync;
  readonly #keepHistory: number;
  readonly #hub: WatchHub;
  readonly #leases: LeaseTimers;
  readonly #sql: Readonly<Record<keyof typeof STATEMENTS, StatementSync>>;
  #revision: number;
  #compactedRevision: number;
  #open = true;

  /** Opens the store, or creates it. Throws Vl3Error('failed-precondition') when another process has it, or it is damaged. */
  constructor(options: SqliteStoreOptions) {
    this.#keepHistory = options.keepHistory ?? 10_000;
    this.#database = openDatabase(options.path);
    try {
      migrate(this.#database, options.path);
      const prepare = (sql: string) => this.#database.prepare(sql);
      this.#sql = {
        get: prepare(STATEMENTS.get),
        below: prepare(STATEMENTS.below),
        newest: prepare(STATEMENTS.newest),
        ofLease: prepare(STATEMENTS.ofLease),
        put: prepare(STATEMENTS.put),
        delete: prepare(STATEMENTS.delete),
        record: prepare(STATEMENTS.record),
        historyAfter: prepare(STATEMENTS.historyAfter),
        compact: prepare(STATEMENTS.compact),
        setMeta: prepare(STATEMENTS.setMeta),
        getMeta: prepare(STATEMENTS.getMeta),
        addLease: prepare(STATEMENTS.addLease),
        dropLease: prepare(STATEMENTS.dropLease),
        leases: prepare(STATEMENTS.leases),
      };
      this.identity = text(this.#meta('identity'));
      this.#revision = integer(this.#meta('revision'));
      this.#compactedRevision = integer(this.#meta('compacted'));
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
    this.#leases = new LeaseTimers({ now: options.now, onExpired: (ended) => this.#expire(ended) });
    for (const { id, ttl_ms } of this.#sql.leases.all()) {
      this.#leases.add(text(id), integer(ttl_ms));
    }
  }

  async read(ranges: readonly Range[]): Promise<ReadResult> {
    const found = new Map<string, Entry>();
    for (const range of ranges) {
      const rows =
        'key' in range
          ? this.#sql.get.all(range.key)
          : this.#sql.below.all(range.prefix, prefixEnd(range.prefix), range.limit ?? -1);
      for (const row of rows) {
        const entry = entryOf(row);
        found.set(entry.key, entry);
      }
    }
    return { revision: this.#revision, entries: [...found.values()] };
  }

  async transact(compares: readonly Compare[], operations: readonly Operation[]): Promise<TransactResult> {
    checkTransaction(compares, operations);
    let succeeded = false;
    this.#write((revision, changes) => {
      succeeded = compares.every((compare) => this.#holds(compare));
      if (succeeded) for (const operation of operations) this.#apply(operation, revision, changes);
    });
    return { succeeded, revision: this.#revision };
  }

  watch(prefix: string, afterRevision: number, signal: AbortSignal): AsyncIterable<Batch> {
    return this.#hub.watch(prefix, afterRevision, signal);
  }

  async grantLease(ttlMs: number): Promise<string> {
    const lease = randomUUID();
    this.#write(() => this.#sql.addLease.run(lease, Math.ceil(ttlMs)));
    this.#leases.add(lease, ttlMs);
    return lease;
  }

  async keepAlive(lease: string): Promise<boolean> {
    return this.#leases.keepAlive(lease);
  }

  async revokeLease(lease: string): Promise<void> {
    this.#endLeases([lease]);
    this.#leases.remove(lease);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#open) return;
    this.#open = false;
    this.#leases.close();
    this.#hub.close();
    this.#database.close();
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

  #apply(operation: Operation, revision: number, changes: Change[]): void {
    if (operation.kind === 'put') {
      const { key, value, lease } = operation;
      if (lease !== undefined && !this.#leases.has(lease)) {
        throw new Vl3Error('not-found', `there is no lease ${lease}`);
      }
      const { create_revision } = this.#sql.get.get(key) ?? { create_revision: revision };
      const createRevision = integer(create_revision);
      this.#sql.put.run(key, value, createRevision, revision, lease ?? null);
      changes.push({ key, value: value.slice(), createRevision });
      return;
    }
    const rows =
      operation.kind === 'delete'
        ? this.#sql.get.all(operation.key)
        : this.#sql.below.all(operation.prefix, prefixEnd(operation.prefix), -1);
    for (const row of rows) this.#delete(row, changes);
  }

  #delete(row: Row, changes: Change[]): void {
    const { key, createRevision } = entryOf(row);
    this.#sql.delete.run(key);
    changes.push({ key, value: undefined, createRevision });
  }

  #expire(ended: readonly string[]): void {
    try {
      this.#endLeases(ended);
    } catch {
      // The disk is full or failing: the keys stay, and the leases get another term to try again.
      for (const lease of ended) this.#leases.add(lease, 1000);
    }
  }

  #endLeases(ended: readonly string[]): void {
    this.#write((_revision, changes) => {
      for (const lease of ended) {
        for (const row of this.#sql.ofLease.all(lease)) this.#delete(row, changes);
        this.#sql.dropLease.run(lease);
      }
    });
  }

  /** One durable transaction at one new revision, published only once it is on disk. */
  #write(body: (revision: number, changes: Change[]) => void): void {
    const revision = this.#revision + 1;
    const changes: Change[] = [];
    let compacted = this.#compactedRevision;
    try {
      this.#database.exec('BEGIN IMMEDIATE');
      body(revision, changes);
      if (changes.length > 0) {
        for (const { key, value, createRevision } of changes) {
          this.#sql.record.run(revision, key, value ?? null, createRevision);
        }
        this.#sql.setMeta.run('revision', revision);
        // In steps of a tenth, so that most transactions have nothing to clear away.
        if (revision - compacted > this.#keepHistory * 1.1) {
          compacted = revision - this.#keepHistory;
          this.#sql.compact.run(compacted);
          this.#sql.setMeta.run('compacted', compacted);
        }
      }
      this.#database.exec('COMMIT');
    } catch (cause) {
      if (this.#open && this.#database.isTransaction) this.#database.exec('ROLLBACK');
      if (cause instanceof Vl3Error) throw cause;
      const reason = cause instanceof Error ? cause.message : String(cause);
      throw new Vl3Error('unavailable', `the store cannot write (${reason}): check the disk it is on`, {
        cause,
      });
    }
    if (changes.length === 0) return;
    this.#revision = revision;
    this.#compactedRevision = compacted;
    this.#hub.publish({ revision, changes });
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

const STATEMENTS = {
  get: 'SELECT * FROM entries WHERE key = ?',
  below: 'SELECT * FROM entries WHERE key >= ? AND key < ? ORDER BY key LIMIT ?',
  newest: 'SELECT max(mod_revision) AS newest FROM entries WHERE key >= ? AND key < ?',
  ofLease: 'SELECT * FROM entries WHERE lease = ?',
  put: `INSERT INTO entries (key, value, create_revision, mod_revision, lease) VALUES (?, ?, ?, ?, ?)
        ON CONFLICT (key) DO UPDATE SET
          value = excluded.value, mod_revision = excluded.mod_revision, lease = excluded.lease`,
  delete: 'DELETE FROM entries WHERE key = ?',
  record: 'INSERT INTO history (revision, key, value, create_revision) VALUES (?, ?, ?, ?)',
  historyAfter: `SELECT * FROM history WHERE revision > ? AND key >= ? AND key < ? ORDER BY revision, key`,
  compact: 'DELETE FROM history WHERE revision <= ?',
  setMeta: 'UPDATE meta SET value = ?2 WHERE name = ?1',
  getMeta: 'SELECT value FROM meta WHERE name = ?',
  addLease: 'INSERT INTO leases (id, ttl_ms) VALUES (?, ?)',
  dropLease: 'DELETE FROM leases WHERE id = ?',
  leases: 'SELECT id, ttl_ms FROM leases',
} as const;

const migrate = (database: DatabaseSync, path: string): void => {
  const { user_version } = database.prepare('PRAGMA user_version').get() ?? {};
  const version = integer(user_version);
  if (version === SCHEMA_VERSION) return;
  if (version !== 0) {
    throw new Vl3Error(
      'failed-precondition',
      `the store ${path} has schema ${version}, this vl3 knows ${SCHEMA_VERSION}: run the newer vl3`,
    );
  }
  database.exec(`BEGIN IMMEDIATE; ${SCHEMA}`);
  const insert = database.prepare('INSERT INTO meta (name, value) VALUES (?, ?)');
  insert.run('identity', randomUUID());
  insert.run('revision', 0);
  insert.run('compacted', 0);
  database.exec(`PRAGMA user_version = ${SCHEMA_VERSION}; COMMIT;`);
};
