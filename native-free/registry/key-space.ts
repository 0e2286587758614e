// What a store of the registry holds and does, without its time, its disk and its watchers: entries with revisions,
// reads, compares, transactions and a bounded history. A transaction is prepared first and installed when its owner has
// made it durable. In memory it is a whole store (src/registry/memory-store.ts, the simulator).

import {
  type Batch,
  type Change,
  type Compare,
  type Entry,
  type Operation,
  prefixEnd,
  type Range,
  type ReadResult,
} from './transaction.ts';

/** A transaction that has not happened yet. Good only until another one is installed. */
export interface Prepared {
  readonly batch: Batch;
  /** The new entries of what the batch changes; undefined: the key goes. */
  readonly entries: readonly (readonly [key: string, entry: Entry | undefined])[];
}

export interface KeySpaceOptions {
  /** How many batches of history are kept. */
  readonly keepHistory: number;
}

export class KeySpace {
  readonly #keepHistory: number;
  readonly #entries = new Map<string, Entry>();
  #history: Batch[] = [];
  #revision = 0;
  #compactedRevision = 0;

  constructor(options: KeySpaceOptions) {
    this.#keepHistory = options.keepHistory;
  }

  get revision(): number {
    return this.#revision;
  }

  /** Batches at or below this revision are gone. */
  get compactedRevision(): number {
    return this.#compactedRevision;
  }

  /** Starts from what another one held at `revision`, without its history. */
  load(entries: Iterable<Entry>, revision: number): void {
    this.#entries.clear();
    for (const entry of entries) this.#entries.set(entry.key, entry);
    this.#history = [];
    this.#revision = revision;
    this.#compactedRevision = revision;
  }

  read(ranges: readonly Range[]): ReadResult {
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

  holds(compare: Compare): boolean {
    return compare.kind === 'revision-is'
      ? (this.#entries.get(compare.key)?.modRevision ?? 0) === compare.revision
      : this.#below(compare.prefix).every((entry) => entry.modRevision <= compare.revision);
  }

  /** What the operations would change, at the next revision; undefined: nothing. Copies the values. */
  prepare(operations: readonly Operation[]): Prepared | undefined {
    const revision = this.#revision + 1;
    const changes: Change[] = [];
    const entries: [string, Entry | undefined][] = [];
    const doom = (key: string): void => {
      const entry = this.#entries.get(key);
      if (entry === undefined) return;
      entries.push([key, undefined]);
      changes.push({ key, value: undefined, createRevision: entry.createRevision });
    };
    for (const operation of operations) {
      if (operation.kind === 'put') {
        const { key, lease } = operation;
        const createRevision = this.#entries.get(key)?.createRevision ?? revision;
        const value = operation.value.slice();
        entries.push([key, { key, value, createRevision, modRevision: revision, lease }]);
        changes.push({ key, value, createRevision });
      } else if (operation.kind === 'delete') {
        doom(operation.key);
      } else {
        for (const { key } of this.#below(operation.prefix)) doom(key);
      }
    }
    return changes.length === 0 ? undefined : { batch: { revision, changes }, entries };
  }

  /** What the end of some leases would change. */
  prepareEnd(leases: readonly string[]): Prepared | undefined {
    const ended = new Set(leases);
    const doomed = [...this.#entries.values()].filter(({ lease }) => lease !== undefined && ended.has(lease));
    return this.prepare(doomed.map(({ key }) => ({ kind: 'delete', key })));
  }

  install({ batch, entries }: Prepared): void {
    for (const [key, entry] of entries) {
      if (entry === undefined) this.#entries.delete(key);
      else this.#entries.set(key, entry);
    }
    this.#revision = batch.revision;
    this.#history.push(batch);
    if (this.#history.length > this.#keepHistory) {
      const gone = this.#history.length - this.#keepHistory;
      this.#compactedRevision = this.#history[gone - 1]?.revision ?? this.#compactedRevision;
      this.#history = this.#history.slice(gone);
    }
  }

  batchesAfter(revision: number, prefix: string): Batch[] {
    return this.#history
      .filter((batch) => batch.revision > revision)
      .map((batch) => ({ ...batch, changes: batch.changes.filter(({ key }) => key.startsWith(prefix)) }))
      .filter((batch) => batch.changes.length > 0);
  }

  #below(prefix: string): Entry[] {
    const end = prefixEnd(prefix);
    return [...this.#entries.values()].filter(({ key }) => key >= prefix && key < end);
  }
}
