// Allowed IPs (WireGuard whitepaper, section 2): which peer a packet for an address goes to, and which peer may send
// from it. A binary trie per family with single-child paths compressed: readable, changed in place, the truth. The
// packet path reads the flat copy of it that allowed-ips-table.ts makes.

import { addressBytes, formatPrefix, type Prefix, prefixAround } from '../ipam/prefix.ts';

interface Node<T> {
  readonly prefix: Prefix;
  readonly bytes: Uint8Array;
  /** Undefined in a node that only branches. */
  value: T | undefined;
  readonly children: [Node<T> | undefined, Node<T> | undefined];
}

export interface AllowedIp<T> {
  readonly prefix: Prefix;
  readonly value: T;
}

const bitAt = (bytes: Uint8Array, index: number): 0 | 1 =>
  (((bytes[index >>> 3] ?? 0) >>> (7 - (index & 7))) & 1) === 0 ? 0 : 1;

/** How many leading bits are alike, at most `limit`. */
const commonLength = (a: Uint8Array, b: Uint8Array, limit: number): number => {
  let length = 0;
  while (length < limit) {
    const difference = (a[length >>> 3] ?? 0) ^ (b[length >>> 3] ?? 0);
    const here = difference === 0 ? 8 : Math.clz32(difference) - 24;
    length += here;
    if (here < 8) break;
  }
  return Math.min(length, limit);
};

export class AllowedIps<T extends NonNullable<unknown>> {
  readonly #roots: { 4: Node<T> | undefined; 6: Node<T> | undefined } = { 4: undefined, 6: undefined };
  /** What each value holds, by the prefix's text. */
  readonly #held = new Map<T, Map<string, Prefix>>();

  /** Gives the prefix to `value`; a prefix that another holds moves. */
  insert(prefix: Prefix, value: T): void {
    const key = formatPrefix(prefix);
    const node = this.#nodeFor(prefix);
    if (node.value !== undefined) this.#forget(node.value, key);
    node.value = value;
    const held = this.#held.get(value);
    if (held === undefined) this.#held.set(value, new Map([[key, prefix]]));
    else held.set(key, prefix);
  }

  /** Takes the prefix from `value`; false (and nothing changes) when `value` does not hold exactly this prefix. */
  remove(prefix: Prefix, value: T): boolean {
    const key = formatPrefix(prefix);
    if (this.#held.get(value)?.has(key) !== true) return false;
    this.#forget(value, key);
    this.#roots[prefix.family] = this.#without(this.#roots[prefix.family], prefix, addressBytes(prefix));
    return true;
  }

  /** Takes all prefixes from `value`. */
  removeAll(value: T): void {
    for (const prefix of [...(this.#held.get(value)?.values() ?? [])]) this.remove(prefix, value);
  }

  /** Who holds the longest prefix that covers the address (4 or 16 bytes, borrowed). */
  lookup(address: Uint8Array): T | undefined {
    const bits = address.length * 8;
    let node = this.#roots[bits === 32 ? 4 : 6];
    let best: T | undefined;
    while (node !== undefined) {
      const { length } = node.prefix;
      if (commonLength(node.bytes, address, length) < length) break;
      if (node.value !== undefined) best = node.value;
      if (length === bits) break;
      node = node.children[bitAt(address, length)];
    }
    return best;
  }

  /** What one value holds, oldest first. */
  heldBy(value: T): Prefix[] {
    return [...(this.#held.get(value)?.values() ?? [])];
  }

  /** All of them, by family and address, a covering prefix before those inside it. */
  *entries(): Generator<AllowedIp<T>> {
    yield* this.#walk(this.#roots[4]);
    yield* this.#walk(this.#roots[6]);
  }

  *#walk(node: Node<T> | undefined): Generator<AllowedIp<T>> {
    if (node === undefined) return;
    if (node.value !== undefined) yield { prefix: node.prefix, value: node.value };
    yield* this.#walk(node.children[0]);
    yield* this.#walk(node.children[1]);
  }

  #forget(value: T, key: string): void {
    const held = this.#held.get(value);
    held?.delete(key);
    if (held?.size === 0) this.#held.delete(value);
  }

  /** The node of exactly this prefix, made where it belongs. */
  #nodeFor(prefix: Prefix): Node<T> {
    const made: Node<T> = {
      prefix,
      bytes: addressBytes(prefix),
      value: undefined,
      children: [undefined, undefined],
    };
    let parent: Node<T> | undefined;
    for (;;) {
      const node: Node<T> | undefined =
        parent === undefined
          ? this.#roots[prefix.family]
          : parent.children[bitAt(made.bytes, parent.prefix.length)];
      if (node === undefined) {
        this.#attach(parent, made);
        return made;
      }
      const common = commonLength(node.bytes, made.bytes, Math.min(node.prefix.length, prefix.length));
      if (common === node.prefix.length && common === prefix.length) return node;
      if (common === node.prefix.length) {
        parent = node;
        continue;
      }
      if (common === prefix.length) {
        made.children[bitAt(node.bytes, common)] = node;
        this.#attach(parent, made);
        return made;
      }
      const fork = prefixAround(prefix, common);
      const branch: Node<T> = {
        prefix: fork,
        bytes: addressBytes(fork),
        value: undefined,
        children: [undefined, undefined],
      };
      branch.children[bitAt(node.bytes, common)] = node;
      branch.children[bitAt(made.bytes, common)] = made;
      this.#attach(parent, branch);
      return made;
    }
  }

  #attach(parent: Node<T> | undefined, node: Node<T>): void {
    if (parent === undefined) this.#roots[node.prefix.family] = node;
    else parent.children[bitAt(node.bytes, parent.prefix.length)] = node;
  }

  /** The subtree without the prefix's value; nodes that no longer hold a value or branch are taken out. */
  #without(node: Node<T> | undefined, prefix: Prefix, bytes: Uint8Array): Node<T> | undefined {
    if (node === undefined) return undefined;
    if (node.prefix.length === prefix.length) {
      node.value = undefined;
    } else {
      const side = bitAt(bytes, node.prefix.length);
      node.children[side] = this.#without(node.children[side], prefix, bytes);
    }
    if (node.value !== undefined || (node.children[0] !== undefined && node.children[1] !== undefined))
      return node;
    return node.children[0] ?? node.children[1];
  }
}
