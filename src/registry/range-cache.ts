// What a store read below whole prefixes, kept as it is written on: rules read all leases of a network for each prefix
// they give, and only one has changed since the last time. Its owner tells it of every write.

import type { Entry } from '../../native-free/registry/transaction.ts';

/** Of all ranges together, each counted as one more. */
const MAX_ENTRIES = 50_000;

export class RangeCache {
  /** By prefix, in the order of keys. */
  readonly #ranges = new Map<string, Entry[]>();
  readonly #limit: number;
  #size = 0;

  constructor(limit = MAX_ENTRIES) {
    this.#limit = limit;
  }

  get(prefix: string): readonly Entry[] | undefined {
    return this.#ranges.get(prefix);
  }

  /** Every entry below the prefix, in the order of keys. */
  set(prefix: string, entries: readonly Entry[]): void {
    // Others are told from a key by where it has its slashes.
    if (!prefix.endsWith('/') || entries.length >= this.#limit) return;
    if (this.#size + entries.length >= this.#limit) this.clear();
    this.#ranges.set(prefix, [...entries]);
    this.#size += entries.length + 1;
  }

  put(entry: Entry): void {
    for (const range of this.#rangesOf(entry.key)) {
      const { at, found } = locate(range, entry.key);
      range.splice(at, found ? 1 : 0, entry);
      if (!found) this.#size++;
    }
    if (this.#size > this.#limit) this.clear();
  }

  delete(key: string): void {
    for (const range of this.#rangesOf(key)) {
      const { at, found } = locate(range, key);
      if (!found) continue;
      range.splice(at, 1);
      this.#size--;
    }
  }

  clear(): void {
    this.#ranges.clear();
    this.#size = 0;
  }

  *#rangesOf(key: string): Generator<Entry[]> {
    for (let slash = key.indexOf('/'); slash !== -1; slash = key.indexOf('/', slash + 1)) {
      const range = this.#ranges.get(key.slice(0, slash + 1));
      if (range !== undefined) yield range;
    }
  }
}

/** Where the key is, or would be. */
const locate = (range: readonly Entry[], key: string): { readonly at: number; readonly found: boolean } => {
  let low = 0;
  let high = range.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    const entry = range[middle];
    if (entry !== undefined && entry.key < key) low = middle + 1;
    else high = middle;
  }
  return { at: low, found: range[low]?.key === key };
};
