// What a program keeps across restarts and crashes: small JSON documents by kind and name in one SQLite file
// (WAL, synchronous FULL: an acknowledged write survives a power cut). Every document is parsed when it is read, so a
// damaged or foreign file is an error with a remedy and never a surprise later.

import { chmodSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync, type StatementSync } from 'node:sqlite';
import { Vl3Error } from '../native-free/error.ts';
import type { DocumentKind, DocumentStore } from '../native-free/reconcile/document-store.ts';
import { makeDirectory } from './make-directory.ts';

const SCHEMA_VERSION = 1;

/** How its errors speak of it. */
export interface DatabaseWords {
  /** The file's name. */
  readonly file: string;
  /** Whose it is, as in "another agent is using". */
  readonly owner: string;
  /** What to do when it is damaged, as in "or run ...". */
  readonly remedy: string;
}

export class DocumentDatabase implements DocumentStore, Disposable {
  readonly #db: DatabaseSync;
  readonly #path: string;
  readonly #get: StatementSync;
  readonly #list: StatementSync;
  readonly #put: StatementSync;
  readonly #delete: StatementSync;
  #depth = 0;
  readonly #words: DatabaseWords;
  #problem = '';

  /**
   * Opens or creates `<directory>/<file>` (0600, the directory 0700). One process at a time. Throws Vl3Error:
   * 'internal' when the file is damaged, else 'failed-precondition'.
   */
  constructor(directory: string, words: DatabaseWords) {
    this.#words = words;
    this.#path = join(directory, words.file);
    try {
      makeDirectory(directory, 0o700);
      this.#db = new DatabaseSync(this.#path, { timeout: 2000 });
      chmodSync(this.#path, 0o600);
      this.#db.exec('PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA locking_mode=EXCLUSIVE;');
      // The exclusive lock is taken by the first write: a second agent on this state stops here.
      this.#db.exec('BEGIN IMMEDIATE; COMMIT;');
    } catch (cause) {
      if (cause instanceof Error && /locked|busy/.test(cause.message)) {
        throw new Vl3Error(
          'failed-precondition',
          `another ${words.owner} is using ${directory}: stop it, or give this one its own --state-dir`,
          { cause },
        );
      }
      const reason = cause instanceof Error ? cause.message : String(cause);
      const isDamaged = /not a database|malformed/.test(reason);
      throw new Vl3Error(
        isDamaged ? 'internal' : 'failed-precondition',
        isDamaged
          ? `${this.#path} is damaged (${reason}): restore it from a backup, or ${words.remedy}`
          : `cannot use ${directory} for the ${words.owner}'s state (${reason}): run the ${words.owner} as a user that may write there, make room, or choose another --state-dir`,
        { cause },
      );
    }
    this.#migrate();
    this.#get = this.#db.prepare('SELECT value FROM document WHERE kind=? AND name=?');
    this.#list = this.#db.prepare('SELECT name, value FROM document WHERE kind=? ORDER BY name');
    this.#put = this.#db.prepare('INSERT OR REPLACE INTO document (kind, name, value) VALUES (?, ?, ?)');
    this.#delete = this.#db.prepare('DELETE FROM document WHERE kind=? AND name=?');
  }

  #migrate(): void {
    const row = this.#db.prepare('PRAGMA user_version').get();
    const version = Number(row?.['user_version'] ?? 0);
    if (version > SCHEMA_VERSION) {
      throw new Vl3Error(
        'failed-precondition',
        `${this.#path} was written by a newer vl3 (schema ${version}, this one knows ${SCHEMA_VERSION}): upgrade vl3`,
      );
    }
    if (version === 0) {
      this.#db.exec(
        `BEGIN; CREATE TABLE document (kind TEXT NOT NULL, name TEXT NOT NULL, value TEXT NOT NULL,
         PRIMARY KEY (kind, name)) WITHOUT ROWID; PRAGMA user_version=${SCHEMA_VERSION}; COMMIT;`,
      );
    }
  }

  #parse<T>(kind: DocumentKind<T>, name: string, text: unknown): T {
    try {
      return kind.schema.parse(JSON.parse(String(text)));
    } catch (cause) {
      throw new Vl3Error(
        'internal',
        `${this.#path} holds a ${kind.kind} "${name}" that cannot be read: restore the file from a backup, or ${this.#words.remedy}`,
        { cause },
      );
    }
  }

  /** Why the last write failed, in a sentence; empty: it did not. */
  get problem(): string {
    return this.#problem;
  }

  /** Runs `access`; what the file refuses is an error with a remedy. */
  #try<R>(access: () => R): R {
    try {
      return access();
    } catch (cause) {
      if (!(cause instanceof Error && 'errcode' in cause)) throw cause;
      const isFull = /full|I\/O/.test(cause.message);
      this.#problem = isFull
        ? `${this.#path} cannot be written (${cause.message}): make room on its disk`
        : `${this.#path} cannot be used (${cause.message}): restore it from a backup, or ${this.#words.remedy}`;
      throw new Vl3Error(isFull ? 'resource-exhausted' : 'internal', this.#problem, { cause });
    }
  }

  get<T>(kind: DocumentKind<T>, name: string): T | undefined {
    const row = this.#try(() => this.#get.get(kind.kind, name));
    return row === undefined ? undefined : this.#parse(kind, name, row['value']);
  }

  list<T>(kind: DocumentKind<T>): { name: string; value: T }[] {
    return this.#try(() => this.#list.all(kind.kind)).map((row) => {
      const name = String(row['name']);
      return { name, value: this.#parse(kind, name, row['value']) };
    });
  }

  put<T>(kind: DocumentKind<T>, name: string, value: T): void {
    this.#try(() => this.#put.run(kind.kind, name, JSON.stringify(value)));
    this.#problem = '';
  }

  delete<T>(kind: DocumentKind<T>, name: string): void {
    this.#try(() => this.#delete.run(kind.kind, name));
  }

  /** Runs `change` as one transaction: all of its writes are kept, or none. May be nested. */
  transact<R>(change: () => R): R {
    if (this.#depth > 0) return change();
    this.#try(() => this.#db.exec('BEGIN IMMEDIATE'));
    this.#depth++;
    try {
      const result = change();
      this.#try(() => this.#db.exec('COMMIT'));
      return result;
    } catch (error) {
      // A full disk has ended the transaction already.
      if (this.#db.isTransaction) this.#db.exec('ROLLBACK');
      throw error;
    } finally {
      this.#depth--;
    }
  }

  [Symbol.dispose](): void {
    this.#db.close();
  }
}
