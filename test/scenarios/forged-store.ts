// The registry's store in the hands of a liar: a record is altered behind the registry's back, at a new revision, so
// that the registry, which still has its right TLS identity, tells every watcher.

import { DatabaseSync } from 'node:sqlite';
import type { NodeRecord } from '../../native-free/registry/record.ts';

/** A record as the store keeps it: the signed bytes in base64, and what the registry read in them. */
interface Stored {
  record: string;
  signature: string;
  certificateChain: string[];
  sequence: number;
}

export class ForgedStore implements Disposable {
  readonly #database: DatabaseSync;

  /** Opens the store of a registry that is stopped. */
  constructor(path: string) {
    this.#database = new DatabaseSync(path);
  }

  read(network: string, node: string): Stored {
    return this.readAt(key(network, node));
  }

  /** Any value of the store, by its key. */
  // biome-ignore lint/suspicious/noExplicitAny: whatever is there is altered by who knows what it is
  readAt(key: string): any {
    const row = this.#database.prepare('SELECT value FROM entries WHERE key = ?').get(key);
    if (!(row?.['value'] instanceof Uint8Array)) throw new Error(`there is no ${key}`);
    return JSON.parse(Buffer.from(row['value']).toString());
  }

  /** Writes the record and everything that makes watchers look at it. */
  write(network: string, node: string, stored: Stored): void {
    this.writeAt(key(network, node), stored);
  }

  writeAt(at: string, stored: unknown): void {
    const { value } = this.#database.prepare(`SELECT value FROM meta WHERE name = 'revision'`).get() ?? {};
    const revision = Number(value) + 1;
    const bytes = Buffer.from(JSON.stringify(stored));
    this.#database.exec('BEGIN IMMEDIATE');
    this.#database
      .prepare('UPDATE entries SET value = ?, mod_revision = ? WHERE key = ?')
      .run(bytes, revision, at);
    this.#database
      .prepare(
        `INSERT INTO history (revision, key, value, create_revision)
         SELECT ?, key, value, create_revision FROM entries WHERE key = ?`,
      )
      .run(revision, at);
    this.#database.prepare(`UPDATE meta SET value = ? WHERE name = 'revision'`).run(revision);
    this.#database.exec('COMMIT');
  }

  [Symbol.dispose](): void {
    this.#database.close();
  }
}

/** The record with other content under the old signature, which is the best a liar without the node's key can do. */
export function alter(stored: Stored, change: Partial<NodeRecord>): Stored {
  const record: NodeRecord = JSON.parse(Buffer.from(stored.record, 'base64').toString());
  // The same fields in the same order: nothing but the signature is wrong with it.
  return { ...stored, record: Buffer.from(JSON.stringify({ ...record, ...change })).toString('base64') };
}

const key = (network: string, node: string): string => `/records/${network}/${node}`;
