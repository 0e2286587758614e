// The ledger of a signer apart: what it has on record, on the disk, and in memory for reading, since each grant looks at all
// leases of its network.

import type { DocumentKind, DocumentStore } from '../../native-free/reconcile/document-store.ts';
import { DocumentDatabase } from '../document-database.ts';

export class LedgerStore implements DocumentStore, Disposable {
  readonly #database: DocumentDatabase;
  readonly #kinds = new Map<DocumentKind<unknown>, Map<string, unknown>>();

  /** Opens or creates `<directory>/ledger.db`. Throws Vl3Error with a remedy. */
  constructor(directory: string) {
    this.#database = new DocumentDatabase(directory, {
      file: 'ledger.db',
      owner: 'CA',
      remedy: 'remove it, register networks and rules anew, and revoke again who was revoked',
    });
  }

  get<T>(kind: DocumentKind<T>, name: string): T | undefined {
    return this.#all(kind).get(name);
  }

  list<T>(kind: DocumentKind<T>): { name: string; value: T }[] {
    return [...this.#all(kind)].map(([name, value]) => ({ name, value }));
  }

  put<T>(kind: DocumentKind<T>, name: string, value: T): void {
    this.#database.put(kind, name, kind.schema.parse(value));
    this.#all(kind).set(name, value);
  }

  delete<T>(kind: DocumentKind<T>, name: string): void {
    this.#database.delete(kind, name);
    this.#all(kind).delete(name);
  }

  transact<R>(change: () => R): R {
    try {
      return this.#database.transact(change);
    } catch (error) {
      // Whatever was changed in memory was not on the disk.
      this.#kinds.clear();
      throw error;
    }
  }

  [Symbol.dispose](): void {
    this.#database[Symbol.dispose]();
  }

  #all<T>(kind: DocumentKind<T>): Map<string, T> {
    const known = this.#kinds.get(kind);
    // Only values of this kind are ever put under it.
    if (known !== undefined) return known as Map<string, T>;
    const loaded = new Map(this.#database.list(kind).map(({ name, value }) => [name, value]));
    this.#kinds.set(kind, loaded);
    return loaded;
  }
}
