// The names of one network as this node knows them: who holds each, and its addresses. Each holder (a node) says its own
// whole; a name that several say has the addresses of all, as replicas of one workload have. Kept both ways, so that a
// question costs a look-up, and a node's change costs what that node says.

import type { Address } from '../ipam/prefix.ts';

export interface NamedAddresses {
  /** Below the network's name, in lower case: "web" or "web.shop". */
  readonly name: string;
  readonly addresses: readonly Address[];
}

export class NameTable {
  readonly #held = new Map<string, readonly NamedAddresses[]>();
  /** name, holder -> addresses */
  readonly #addresses = new Map<string, Map<string, readonly Address[]>>();
  /** address, "holder name" -> name */
  readonly #names = new Map<string, Map<string, string>>();
  /** How many names are below a name that is only part of them. */
  readonly #above = new Map<string, number>();
  #serial = 1;

  /** Grows with every change. */
  get serial(): number {
    return this.#serial;
  }

  /** What the holder has, in place of all it had. */
  set(holder: string, entries: readonly NamedAddresses[]): void {
    const before = this.#held.get(holder) ?? [];
    if (before.length === 0 && entries.length === 0) return;
    for (const entry of before) this.#remove(holder, entry);
    this.#held.delete(holder);
    // Two of its workloads may have one name.
    const merged = new Map<string, Address[]>();
    for (const { name, addresses } of entries) merged.set(name, [...(merged.get(name) ?? []), ...addresses]);
    // A name without addresses is none.
    const kept = [...merged].flatMap(([name, addresses]) =>
      addresses.length === 0 ? [] : [{ name, addresses }],
    );
    if (kept.length > 0) this.#held.set(holder, kept);
    for (const entry of kept) this.#add(holder, entry);
    this.#serial = (this.#serial + 1) >>> 0;
  }

  get holders(): string[] {
    return [...this.#held.keys()];
  }

  /** In the order of the addresses, whoever holds them. */
  addresses(name: string): Address[] {
    const found = new Map<string, Address>();
    for (const addresses of this.#addresses.get(name)?.values() ?? [])
      for (const address of addresses) found.set(keyOf(address), address);
    return [...found.values()].sort(byAddress);
  }

  /** Whether there are names below this one, which is none itself. */
  isPartOfNames(name: string): boolean {
    return this.#above.has(name);
  }

  /** What an address is called, sorted. */
  names(address: Address): string[] {
    return [...new Set(this.#names.get(keyOf(address))?.values())].sort();
  }

  #add(holder: string, { name, addresses }: NamedAddresses): void {
    const holders = this.#addresses.get(name) ?? new Map<string, readonly Address[]>();
    this.#addresses.set(name, holders.set(holder, addresses));
    for (const address of addresses) {
      const names = this.#names.get(keyOf(address)) ?? new Map<string, string>();
      this.#names.set(keyOf(address), names.set(`${holder} ${name}`, name));
    }
    for (const part of partsOf(name)) this.#above.set(part, (this.#above.get(part) ?? 0) + 1);
  }

  #remove(holder: string, { name, addresses }: NamedAddresses): void {
    const holders = this.#addresses.get(name);
    holders?.delete(holder);
    if (holders?.size === 0) this.#addresses.delete(name);
    for (const address of addresses) {
      const names = this.#names.get(keyOf(address));
      names?.delete(`${holder} ${name}`);
      if (names?.size === 0) this.#names.delete(keyOf(address));
    }
    for (const part of partsOf(name)) {
      const count = (this.#above.get(part) ?? 0) - 1;
      if (count > 0) this.#above.set(part, count);
      else this.#above.delete(part);
    }
  }
}

const keyOf = ({ family, value }: Address): string => `${family} ${value}`;

const byAddress = (a: Address, b: Address): number =>
  a.family - b.family || (a.value < b.value ? -1 : Number(a.value > b.value));

/** "a.b.c": "b.c" and "c". */
const partsOf = (name: string): string[] => {
  const labels = name.split('.');
  return labels.slice(1).map((_, i) => labels.slice(i + 1).join('.'));
};
