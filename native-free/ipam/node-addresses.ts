// The addresses a node hands out on one network, with what is written down of them kept in step: what could not be written
// down has not happened. Which address is next is allocator.ts; whether a prefix can be leased, and how, its owner says.

import type { Allocator, AllocatorState } from './allocator.ts';
import { type Address, type Family, type Prefix, parseAddress } from './prefix.ts';

export interface NodeAddressesDependencies {
  readonly allocator: Allocator;
  /** Writes down; throws when it cannot. */
  readonly save: (state: AllocatorState) => void;
  /** Runs `change` so that all of its writes are kept, or none; throws when they could not be. */
  readonly transact: (change: () => void) => void;
}

export class NodeAddresses {
  readonly #allocator: Allocator;
  readonly #dependencies: NodeAddressesDependencies;

  constructor(dependencies: NodeAddressesDependencies) {
    this.#allocator = dependencies.allocator;
    this.#dependencies = dependencies;
  }

  gateway(family: Family): Address | undefined {
    return this.#allocator.gateway(family);
  }

  /**
   * One address of each family for `owner`, written down together with what `also` writes; or the family that another
   * prefix is needed for.
   */
  take(
    owner: string,
    families: readonly Family[],
    excluded: readonly Prefix[],
    also: (addresses: readonly Address[]) => void,
  ): { readonly addresses: Address[] } | { readonly missing: Family } {
    const addresses: Address[] = [];
    for (const family of families) {
      const address = this.#allocator.allocate(family, owner, excluded);
      if (address === undefined) {
        this.#giveBack(owner, addresses);
        return { missing: family };
      }
      addresses.push(address);
    }
    try {
      this.#write(() => also(addresses));
    } catch (error) {
      this.#giveBack(owner, addresses);
      throw error;
    }
    return { addresses };
  }

  /** Written down together with what `also` writes; when that fails, `owner` holds them still. */
  free(owner: string, addresses: readonly Address[], also: () => void): void {
    this.#giveBack(owner, addresses);
    try {
      this.#write(also);
    } catch (error) {
      for (const address of addresses) this.#allocator.reserve(address, owner);
      throw error;
    }
  }

  /** Frees what belongs to nobody of these: an older version may have died between an allocation and its use. */
  freeStrangers(known: ReadonlySet<string>): string[] {
    const strangers = new Set<string>();
    for (const { used } of this.#allocator.toState().prefixes)
      for (const [text, owner] of Object.entries(used)) {
        if (known.has(owner)) continue;
        strangers.add(owner);
        this.#allocator.free(parseAddress(text), owner);
      }
    if (strangers.size > 0) this.#write(() => undefined);
    return [...strangers];
  }

  #write(also: () => void): void {
    const { save, transact } = this.#dependencies;
    transact(() => {
      save(this.#allocator.toState());
      also();
    });
  }

  #giveBack(owner: string, addresses: readonly Address[]): void {
    for (const address of addresses) this.#allocator.free(address, owner);
  }
}
