// The flat, immutable copy of allowed IPs that packet workers read: one Int32Array over a SharedArrayBuffer, built
// anew at each change and published by reference. A trie that looks at four bits a step and skips whatever all
// prefixes below have in common; the skipped bits are checked once at the end, against the prefix that was found.
//
//   word 0   entry of the IPv4 root        an entry is   0   no prefix
//   word 1   entry of the IPv6 root                     > 0   offset of a node
//   node     nibble index, 16 entries                   < 0   minus the offset of a leaf
//   leaf     value, entry of the next shorter prefix that covers this one, network words, mask words (1 or 4 each)

import { type Family, familyBits, type Prefix, prefixCovers } from '../ipam/prefix.ts';

const V4_ROOT = 0;
const V6_ROOT = 1;
const NODE_WORDS = 17;
const LEAF_VALUE = 0;
const LEAF_PARENT = 1;
const LEAF_NETWORK = 2;
const V4_LEAF_MASK = LEAF_NETWORK + 1;
const V6_LEAF_MASK = LEAF_NETWORK + 4;

/** What a lookup gives when no prefix covers the address. */
export const NO_PEER = -1;

export interface AllowedIpsEntry {
  readonly prefix: Prefix;
  /** Any 32-bit integer but NO_PEER: a peer's index. */
  readonly value: number;
}

/** Builds the table. Of two entries with the same prefix the later counts. */
export const buildAllowedIpsTable = (entries: Iterable<AllowedIpsEntry>): Int32Array<SharedArrayBuffer> => {
  const byFamily: Record<Family, Map<string, AllowedIpsEntry>> = { 4: new Map(), 6: new Map() };
  for (const entry of entries) {
    const { family, value, length } = entry.prefix;
    byFamily[family].set(`${value}/${length}`, entry);
  }
  const words: number[] = [0, 0];
  for (const family of [4, 6] as const) {
    const sorted = [...byFamily[family].values()].sort(({ prefix: a }, { prefix: b }) =>
      a.value === b.value ? a.length - b.length : a.value < b.value ? -1 : 1,
    );
    words[family === 4 ? V4_ROOT : V6_ROOT] = new Builder(words, family).build(sorted, 0);
  }
  const table = new Int32Array(new SharedArrayBuffer(words.length * 4));
  table.set(words);
  return table;
};

class Builder {
  readonly #words: number[];
  readonly #bits: number;
  readonly #leaves = new Map<AllowedIpsEntry, number>();

  constructor(words: number[], family: Family) {
    this.#words = words;
    this.#bits = familyBits(family);
  }

  /** The entry for a region in which `sorted` are the prefixes and `inherited` the leaf that covers all of it. */
  build(sorted: readonly AllowedIpsEntry[], inherited: number): number {
    let from = 0;
    for (;;) {
      const first = sorted[from];
      const last = sorted.at(-1);
      if (first === undefined || last === undefined) return inherited;
      // Sorted by address, a prefix that covers first and last covers all.
      if (!prefixCovers(first.prefix, last.prefix)) return this.#branch(sorted.slice(from), inherited);
      inherited = this.#leaf(first, inherited);
      from++;
    }
  }

  #branch(sorted: readonly AllowedIpsEntry[], inherited: number): number {
    const first = sorted[0]?.prefix.value ?? 0n;
    const difference = first ^ (sorted.at(-1)?.prefix.value ?? 0n);
    const common = this.#bits - difference.toString(2).length;
    const nibble = common >>> 2;
    const shift = BigInt(this.#bits - 4 - nibble * 4);
    const at = this.#words.length;
    this.#words.push(nibble);
    for (let i = 1; i < NODE_WORDS; i++) this.#words.push(0);
    const slots: AllowedIpsEntry[][] = Array.from({ length: 16 }, () => []);
    for (const entry of sorted) {
      const { value, length } = entry.prefix;
      const slot = Number((value >> shift) & 0xfn);
      // A prefix that ends inside this nibble fills several slots.
      const span = 1 << Math.max(0, (nibble + 1) * 4 - length);
      for (let i = slot; i < slot + span; i++) slots[i]?.push(entry);
    }
    for (const [slot, inside] of slots.entries()) this.#words[at + 1 + slot] = this.build(inside, inherited);
    return at;
  }

  #leaf(entry: AllowedIpsEntry, parent: number): number {
    const known = this.#leaves.get(entry);
    if (known !== undefined) return known;
    const at = this.#words.length;
    const { value, length } = entry.prefix;
    const ones = (1n << BigInt(this.#bits)) - 1n;
    const mask = ones ^ (ones >> BigInt(length));
    this.#words.push(entry.value, parent, ...this.#split(value), ...this.#split(mask));
    this.#leaves.set(entry, -at);
    return -at;
  }

  #split(value: bigint): number[] {
    const words: number[] = [];
    for (let shift = this.#bits - 32; shift >= 0; shift -= 32)
      words.push(Number(BigInt.asIntN(32, value >> BigInt(shift))));
    return words;
  }
}

/** The value of the longest prefix that covers the IPv4 address at `offset`, or NO_PEER. Borrows everything. */
export const lookupV4 = (table: Int32Array, bytes: Uint8Array, offset: number): number => {
  let entry = descend(table, table[V4_ROOT] ?? 0, bytes, offset);
  if (entry === 0) return NO_PEER;
  const address = readWord(bytes, offset);
  while (entry < 0) {
    const leaf = -entry;
    if (((address ^ (table[leaf + LEAF_NETWORK] ?? 0)) & (table[leaf + V4_LEAF_MASK] ?? 0)) === 0)
      return table[leaf + LEAF_VALUE] ?? NO_PEER;
    entry = table[leaf + LEAF_PARENT] ?? 0;
  }
  return NO_PEER;
};

/** As lookupV4, for the IPv6 address at `offset`. */
export const lookupV6 = (table: Int32Array, bytes: Uint8Array, offset: number): number => {
  let entry = descend(table, table[V6_ROOT] ?? 0, bytes, offset);
  if (entry === 0) return NO_PEER;
  const a = readWord(bytes, offset);
  const b = readWord(bytes, offset + 4);
  const c = readWord(bytes, offset + 8);
  const d = readWord(bytes, offset + 12);
  while (entry < 0) {
    const network = -entry + LEAF_NETWORK;
    const mask = -entry + V6_LEAF_MASK;
    const difference =
      ((a ^ (table[network] ?? 0)) & (table[mask] ?? 0)) |
      ((b ^ (table[network + 1] ?? 0)) & (table[mask + 1] ?? 0)) |
      ((c ^ (table[network + 2] ?? 0)) & (table[mask + 2] ?? 0)) |
      ((d ^ (table[network + 3] ?? 0)) & (table[mask + 3] ?? 0));
    if (difference === 0) return table[-entry + LEAF_VALUE] ?? NO_PEER;
    entry = table[-entry + LEAF_PARENT] ?? 0;
  }
  return NO_PEER;
};

const descend = (table: Int32Array, entry: number, bytes: Uint8Array, offset: number): number => {
  while (entry > 0) {
    const nibble = table[entry] ?? 0;
    const byte = bytes[offset + (nibble >>> 1)] ?? 0;
    entry = table[entry + 1 + ((nibble & 1) === 0 ? byte >>> 4 : byte & 0xf)] ?? 0;
  }
  return entry;
};

const readWord = (bytes: Uint8Array, offset: number): number =>
  ((bytes[offset] ?? 0) << 24) |
  ((bytes[offset + 1] ?? 0) << 16) |
  ((bytes[offset + 2] ?? 0) << 8) |
  (bytes[offset + 3] ?? 0);
