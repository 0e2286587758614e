// The embedded store's file: how it is opened, what tables it has, and how its rows are read. Shared by the store itself,
// its backups and their restoration.

import { randomUUID } from 'node:crypto';
import { closeSync, openSync } from 'node:fs';
import { backup, DatabaseSync, type StatementSync } from 'node:sqlite';
import { setTimeout as sleep } from 'node:timers/promises';
import { Vl3Error } from '../../native-free/error.ts';
import type { Entry } from '../../native-free/registry/transaction.ts';

export const SCHEMA_VERSION = 1;
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

export type Statements = Readonly<Record<keyof typeof STATEMENTS, StatementSync>>;

export const prepareStatements = (database: DatabaseSync): Statements => {
  const prepare = (sql: string) => database.prepare(sql);
  return {
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
};

export type Row = Record<string, unknown>;

export const text = (value: unknown): string => {
  if (typeof value !== 'string') throw new Vl3Error('internal', 'the store holds a malformed row');
  return value;
};
export const integer = (value: unknown): number => {
  if (typeof value !== 'number') throw new Vl3Error('internal', 'the store holds a malformed row');
  return value;
};
export const blob = (value: unknown): Uint8Array => {
  if (!(value instanceof Uint8Array)) throw new Vl3Error('internal', 'the store holds a malformed row');
  return value;
};

export const entryOf = ({ key, value, create_revision, mod_revision, lease }: Row): Entry => ({
  key: text(key),
  value: blob(value),
  createRevision: integer(create_revision),
  modRevision: integer(mod_revision),
  lease: lease === null ? undefined : text(lease),
});

/** Opens the file for this process alone, making it (0600) where it is missing. Throws Vl3Error('failed-precondition'). */
export const openDatabase = (
  path: string,
  inUse = 'another registry has it open: stop that one, or use another --state-dir',
): DatabaseSync => {
  let database: DatabaseSync | undefined;
  try {
    closeSync(openSync(path, 'a', 0o600));
    database = new DatabaseSync(path, { timeout: 0 });
    database.exec('PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;');
    // Takes the lock at once, so that a second registry fails here and not at its first write.
    database.exec('BEGIN IMMEDIATE; COMMIT;');
    return database;
  } catch (cause) {
    database?.close();
    const reason = cause instanceof Error ? cause.message : String(cause);
    const remedy = /lock/i.test(reason)
      ? inUse
      : `${reason}: is the directory there and writable, and the file a store of vl3?`;
    throw cannotOpen(path, remedy, cause);
  }
};

export const cannotOpen = (path: string, why: string, cause?: unknown): Vl3Error =>
  new Vl3Error('failed-precondition', `cannot open the store ${path}: ${why}`, { cause });

export const schemaVersion = (database: DatabaseSync): number => {
  const { user_version } = database.prepare('PRAGMA user_version').get() ?? {};
  return integer(user_version);
};

/** Brings the tables to this vl3's schema, making them in an empty file. */
export const migrate = (database: DatabaseSync, path: string): void => {
  const version = schemaVersion(database);
  if (version === SCHEMA_VERSION) return;
  if (version !== 0) {
    throw new Vl3Error(
      'failed-precondition',
      `the store ${path} has schema ${version}, this vl3 knows ${SCHEMA_VERSION}: run the newer vl3`,
    );
  }
  database.exec('BEGIN IMMEDIATE');
  makeTables(database);
  const insert = database.prepare('INSERT INTO meta (name, value) VALUES (?, ?)');
  insert.run('identity', randomUUID());
  insert.run('revision', 0);
  insert.run('compacted', 0);
  database.exec(`PRAGMA user_version = ${SCHEMA_VERSION}; COMMIT;`);
};

export const makeTables = (database: DatabaseSync): void => database.exec(SCHEMA);

const COPY_ATTEMPTS = 200;
/** Of 4 KiB: what SQLite copies before it lets others in. */
const COPY_PAGES = 128;

/** A consistent copy, while others of this process write. Throws SQLite's error when it cannot be made. */
export const copyDatabase = async (database: DatabaseSync, path: string): Promise<void> => {
  for (let attempt = 1; ; attempt++) {
    try {
      await backup(database, path, { rate: COPY_PAGES });
      return;
    } catch (error) {
      // Its first step fell into a transaction; later ones wait for themselves.
      const isBusy = error instanceof Error && /locked|busy|not an error/i.test(error.message);
      if (!isBusy || attempt === COPY_ATTEMPTS) throw error;
      await sleep(5);
    }
  }
};
