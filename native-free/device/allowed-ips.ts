// Allowed IPs (WireGuard whitepaper, section 2): which peer a packet for an address goes to, and which peer may send
// from it. A binary trie per family with single-child paths compressed: readable, changed in place, the truth. The
// packet path reads the flat copy of it that allowed-ips-table.ts makes.

import {
  addressFromBytes,
  familyBits,
  hostPrefix,
  type Prefix,
  prefixAround,
  prefixCovers,
} from '../ipam/prefix.ts';

/** All there is to a prefix, or a fork: a device may have thousands, most of which no packet is ever for. */
class Node<T> {
  readonly prefix: Prefix;
  /** Undefined in a node that only branches. */
  value: T | undefined;
  zero: Node<T> | undefined;
  one: Node<T> | undefined;
  /** The nodes of one value are a ring by age: after the youngest comes the oldest. */
  younger: Node<T> = this;
  older: Node<T> = this;

  constructor(prefix: Prefix) {
    this.prefix = prefix;
  }

  /** What is below on the way to `prefix`, which this node covers. */
  towards(prefix: Prefix): Node<T> | undefined {
    return this.#isOne(prefix) ? this.one : this.zero;
  }

  /** Puts `node` below, in place of what is there. */
  adopt(node: Node<T> | undefined, prefix: Prefix): void {
    if (this.#isOne(prefix)) this.one = node;
    else this.zero = node;
  }

  /** The first bit of `prefix` past this node's own. */
  #isOne({ family, value }: Prefix): boolean {
    const after = familyBits(family) - this.prefix.length - 1;
    return after >= 0 && ((value >> BigInt(after)) & 1n) === 1n;
  }
}

export interface AllowedIp<T> {
  readonly prefix: Prefix;
  readonly value: T;
}

export class AllowedIps<T extends NonNullable<unknown>> {
  readonly #roots: { 4: Node<T> | undefined; 6: Node<T> | undefined } = { 4: undefined, 6: undefined };
  /** The youngest node of each value. */
  readonly #held = new Map<T, Node<T>>();

  /** Gives the prefix to `value`; a prefix that another holds moves. */
  insert(prefix: Prefix, value: T): void {
    const node = this.#nodeFor(prefix);
    this.#forget(node);
    this.#hold(node, value);
  }

  /** Takes the prefix from `value`; false (and nothing changes) when `value` does not hold exactly this prefix. */
  remove(prefix: Prefix, value: T): boolean {
    const node = this.#find(prefix);
    if (node?.value !== value) return false;
    this.#forget(node);
    this.#roots[prefix.family] = pruned(this.#roots[prefix.family], prefix);
    return true;
  }

  /** Takes all prefixes from `value`. */
  removeAll(value: T): void {
    for (const prefix of this.heldBy(value)) this.remove(prefix, value);
  }

  /** Who holds the longest prefix that covers the address (4 or 16 bytes, borrowed). */
  lookup(address: Uint8Array): T | undefined {
    const sought = hostPrefix(addressFromBytes(address));
    let best: T | undefined;
    for (let node = this.#roots[sought.family]; node !== undefined; node = node.towards(sought)) {
      if (!prefixCovers(node.prefix, sought)) break;
      if (node.value !== undefined) best = node.value;
    }
    return best;
  }

  /** What one value holds, oldest first. */
  heldBy(value: T): Prefix[] {
    const prefixes: Prefix[] = [];
    const youngest = this.#held.get(value);
    if (youngest === undefined) return prefixes;
    for (let node = youngest.younger; ; node = node.younger) {
      prefixes.push(node.prefix);
      if (node === youngest) return prefixes;
    }
  }

  /** All of them, by family and address, a covering prefix before those inside it. */
  *entries(): Generator<AllowedIp<T>> {
    yield* this.#walk(this.#roots[4]);
    yield* this.#walk(this.#roots[6]);
  }

  *#walk(node: Node<T> | undefined): Generator<AllowedIp<T>> {
    if (node === undefined) return;
    if (node.value !== undefined) yield { prefix: node.prefix, value: node.value };
    yield* this.#walk(node.zero);
    yield* this.#walk(node.one);
  }

  #hold(node: Node<T>, value: T): void {
    node.value = value;
    const youngest = this.#held.get(value);
    if (youngest !== undefined) {
      node.older = youngest;
      node.younger = youngest.younger;
      node.older.younger = node;
      node.younger.older = node;
    }
    this.#held.set(value, node);
  }

  #forget(node: Node<T>): void {
    const { value, older, younger } = node;
    if (value === undefined) return;
    if (older === node) this.#held.delete(value);
    else if (this.#held.get(value) === node) this.#held.set(value, older);
    older.younger = younger;
    younger.older = older;
    node.value = undefined;
    node.older = node;
    node.younger = node;
  }

  #find(prefix: Prefix): Node<T> | undefined {
    for (let node = this.#roots[prefix.family]; node !== undefined; node = node.towards(prefix)) {
      if (!prefixCovers(node.prefix, prefix)) return undefined;
      if (node.prefix.length === prefix.length) return node;
    }
    return undefined;
  }

  /** The node of exactly this prefix, made where it belongs. */
  #nodeFor(prefix: Prefix): Node<T> {
    let parent: Node<T> | undefined;
    for (;;) {
      const node = parent === undefined ? this.#roots[prefix.family] : parent.towards(prefix);
      if (node === undefined) return this.#attach(parent, prefix);
      if (prefixCovers(node.prefix, prefix)) {
        if (node.prefix.length === prefix.length) return node;
        parent = node;
        continue;
      }
      const common = commonLength(node.prefix, prefix);
      const above = this.#attach(parent, prefixAround(prefix, common));
      above.adopt(node, node.prefix);
      return common === prefix.length ? above : this.#attach(above, prefix);
    }
  }

  /** A new node in place of what was below `parent` there. */
  #attach(parent: Node<T> | undefined, prefix: Prefix): Node<T> {
    const node = new Node<T>(prefix);
    if (parent === undefined) this.#roots[prefix.family] = node;
    else parent.adopt(node, prefix);
    return node;
  }
}

/** The subtree without the nodes on the way to `prefix` that neither hold a value nor branch any more. */
const pruned = <T>(node: Node<T> | undefined, prefix: Prefix): Node<T> | undefined => {
  if (node === undefined) return undefined;
  if (node.prefix.length < prefix.length) node.adopt(pruned(node.towards(prefix), prefix), prefix);
  const isOfUse = node.value !== undefined || (node.zero !== undefined && node.one !== undefined);
  return isOfUse ? node : (node.zero ?? node.one);
};

/** How many leading bits are alike, as far as both have that many. */
const commonLength = (a: Prefix, b: Prefix): number => {
  const difference = a.value ^ b.value;
  const alike =
    difference === 0n ? Number.POSITIVE_INFINITY : familyBits(a.family) - difference.toString(2).length;
  return Math.min(alike, a.length, b.length);
};
