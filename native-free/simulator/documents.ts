// What a simulated agent keeps over restarts: the document store over a disk that crashes. Each change is written and
// synced before it returns; what is done inside `transact` is one transaction. Here are only the kinds of documents that
// are not those of a real agent.

import { z } from 'zod';
import type { DocumentKind, DocumentStore } from '../reconcile/document-store.ts';
import type { Disk, DiskChange } from './disk.ts';

const savedIdentity = z.strictObject({
  trustDomain: z.string(),
  node: z.string(),
  serial: z.string(),
  notBefore: z.number(),
  notAfter: z.number(),
  termMs: z.number(),
  chain: z.array(z.string()),
});
/** Named "self". */
export const IDENTITY: DocumentKind<z.infer<typeof savedIdentity>> = { kind: 'node', schema: savedIdentity };

const savedAttachment = z.strictObject({
  id: z.string(),
  network: z.string(),
  workload: z.string(),
  namespace: z.string(),
  addresses: z.array(z.string()),
  labels: z.record(z.string(), z.string()),
  ready: z.boolean(),
  attachedAt: z.number(),
});
export type SavedAttachment = z.infer<typeof savedAttachment>;
export const ATTACHMENT: DocumentKind<SavedAttachment> = { kind: 'attachment', schema: savedAttachment };

export class Documents implements DocumentStore {
  readonly #disk: Disk;
  #pending: Map<string, string | undefined> | undefined;

  constructor(disk: Disk) {
    this.#disk = disk;
  }

  get<T>(kind: DocumentKind<T>, name: string): T | undefined {
    const key = `${kind.kind}/${name}`;
    const text = this.#pending?.has(key) ? this.#pending.get(key) : this.#disk.get(key);
    return text === undefined ? undefined : kind.schema.parse(JSON.parse(text));
  }

  list<T>(kind: DocumentKind<T>): { name: string; value: T }[] {
    const start = `${kind.kind}/`;
    const all = new Map<string, string | undefined>(this.#disk.contents);
    for (const [key, text] of this.#pending ?? []) all.set(key, text);
    return [...all]
      .filter(([key]) => key.startsWith(start))
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .flatMap(([key, text]) =>
        text === undefined
          ? []
          : [{ name: key.slice(start.length), value: kind.schema.parse(JSON.parse(text)) }],
      );
  }

  put<T>(kind: DocumentKind<T>, name: string, value: T): void {
    this.#write([[`${kind.kind}/${name}`, JSON.stringify(value)]]);
  }

  delete<T>(kind: DocumentKind<T>, name: string): void {
    this.#write([[`${kind.kind}/${name}`, undefined]]);
  }

  /** All of its writes are kept, or none. May be nested. */
  transact<R>(change: () => R): R {
    if (this.#pending !== undefined) return change();
    this.#pending = new Map();
    try {
      const result = change();
      const changes = [...this.#pending];
      this.#pending = undefined;
      if (changes.length > 0) this.#write(changes);
      return result;
    } finally {
      this.#pending = undefined;
    }
  }

  #write(changes: readonly DiskChange[]): void {
    if (this.#pending === undefined) {
      this.#disk.write(changes);
      this.#disk.sync();
    } else {
      for (const [key, value] of changes) this.#pending.set(key, value);
    }
  }
}
