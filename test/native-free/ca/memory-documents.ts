// A document store in memory whose transactions hold: what throws leaves nothing behind.

import type { DocumentKind, DocumentStore } from '../../../native-free/reconcile/document-store.ts';

export class MemoryDocuments implements DocumentStore {
  #all = new Map<string, string>();
  #depth = 0;

  get<T>({ kind, schema }: DocumentKind<T>, name: string): T | undefined {
    const text = this.#all.get(`${kind}\n${name}`);
    return text === undefined ? undefined : schema.parse(JSON.parse(text));
  }

  list<T>({ kind, schema }: DocumentKind<T>): { name: string; value: T }[] {
    const start = `${kind}\n`;
    return [...this.#all]
      .filter(([key]) => key.startsWith(start))
      .map(([key, text]) => ({ name: key.slice(start.length), value: schema.parse(JSON.parse(text)) }));
  }

  put<T>({ kind, schema }: DocumentKind<T>, name: string, value: T): void {
    this.#all.set(`${kind}\n${name}`, JSON.stringify(schema.parse(value)));
  }

  delete<T>({ kind }: DocumentKind<T>, name: string): void {
    this.#all.delete(`${kind}\n${name}`);
  }

  transact<R>(change: () => R): R {
    if (this.#depth > 0) return change();
    const before = new Map(this.#all);
    this.#depth += 1;
    try {
      return change();
    } catch (error) {
      this.#all = before;
      throw error;
    } finally {
      this.#depth -= 1;
    }
  }
}
