// The addresses a node hands out on one network, with what is written down of them kept in step: what could not be written
// down has not happened. Which address is next is allocator.ts; whether a prefix can be leased, and how, its owner says.

import { Vl3Error } from '../error.ts';
import type { Allocator, AllocatorState, PrefixUse, Refusal } from './allocator.ts';
import {
  type Address,
  type Family,
  formatAddress,
  formatPrefix,
  type Prefix,
  parseAddress,
} from './prefix.ts';

export interface NodeAddressesDependencies {
  readonly allocator: Allocator;
  /** Writes down; throws when it cannot. */
  readonly save: (state: AllocatorState) => void;
  /** Runs `change` so that all of its writes are kept, or none; throws when they could not be. */
  readonly transact: (change: () => void) => void;
  /** Milliseconds of a clock that only grows. Absent: no address rests. */
  readonly now?: () => number;
}

/** What whoever takes addresses asks for. */
export interface Asked {
  /** These or none; a family without one gets any. */
  readonly fixed?: readonly Address[];
  /** Rather these, if they can be had. */
  readonly preferred?: readonly Address[];
  /** Also addresses that have not rested, when there are no others. */
  readonly early?: boolean;
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

  uses(family: Family, excluded: readonly Prefix[]): PrefixUse[] {
    return this.#allocator.uses(family, excluded);
  }

  /**
   * One address of each family for `owner`, written down together with what `also` writes; or the family that another
   * prefix is needed for. Throws Vl3Error when a fixed address cannot be had.
   */
  take(
    owner: string,
    families: readonly Family[],
    excluded: readonly Prefix[],
    also: (addresses: readonly Address[]) => void,
    asked: Asked = {},
  ): { readonly addresses: Address[] } | { readonly missing: Family } {
    const addresses: Address[] = [];
    // Given back, what was never had would rest anew, and those that have rested longer would come later. How long they have
    // rested is told by the time that is to be, or each take that fails would set them back.
    this.#allocator.see(this.#dependencies.now?.());
    const before = this.#allocator.toState();
    try {
      for (const family of families) {
        const address = this.#choose(owner, family, excluded, asked);
        if (address === undefined) {
          this.#allocator.restore(before);
          return { missing: family };
        }
        addresses.push(address);
      }
      this.#write(() => also(addresses));
    } catch (error) {
      this.#allocator.restore(before);
      throw error;
    }
    return { addresses };
  }

  #choose(
    owner: string,
    family: Family,
    excluded: readonly Prefix[],
    { fixed = [], preferred = [], early = false }: Asked,
  ): Address | undefined {
    const asked = fixed.find((address) => address.family === family);
    if (asked !== undefined) {
      const refusal = this.#allocator.claim(asked, owner, excluded);
      if (refusal === undefined) return asked;
      throw this.#refused(asked, refusal);
    }
    const liked = preferred.find(
      (address) => address.family === family && this.#allocator.reserve(address, owner, excluded),
    );
    const now = this.#dependencies.now?.();
    if (liked !== undefined) return liked;
    return this.#allocator.allocate(family, owner, excluded, { early, ...(now !== undefined && { now }) });
  }

  #refused(address: Address, refusal: Refusal): Vl3Error {
    const text = formatAddress(address);
    const prefixes = this.#allocator.uses(address.family).map(({ prefix }) => formatPrefix(prefix));
    switch (refusal) {
      case 'elsewhere':
        return new Vl3Error(
          'failed-precondition',
          `${text} is in no prefix that this node holds (${prefixes.join(', ') || 'none yet'}): ask for an address in one of them, or for none`,
        );
      case 'held':
        return new Vl3Error(
          'already-exists',
          `${text} is taken by attachment ${this.#allocator.ownerOf(address)}: ask for another address, or detach that one first`,
        );
      case 'excluded':
        return new Vl3Error(
          'failed-precondition',
          `${text} is in a range that nothing is handed out from now: ask for another address`,
        );
      case 'unusable':
        return new Vl3Error(
          'failed-precondition',
          `${text} is the gateway, network or broadcast address of a prefix: ask for another address`,
        );
    }
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
        this.#giveBack(owner, [parseAddress(text)]);
      }
    if (strangers.size > 0) this.#write(() => undefined);
    return [...strangers];
  }

  /** Takes a leased prefix into use, written down together with what `also` writes. */
  addPrefix(prefix: Prefix, also: () => void): void {
    const isNew = !this.#holds(prefix);
    this.#allocator.addPrefix(prefix);
    try {
      this.#write(also);
    } catch (error) {
      if (isNew) this.#allocator.removePrefix(prefix);
      throw error;
    }
  }

  /** Forgets a prefix, written down together with what `also` writes. False: addresses of it are handed out. */
  removePrefix(prefix: Prefix, also: () => void): boolean {
    if (!this.#holds(prefix)) {
      this.#write(also);
      return true;
    }
    const before = this.#allocator.toState();
    if (!this.#allocator.removePrefix(prefix)) return false;
    try {
      this.#write(also);
    } catch (error) {
      this.#allocator.restore(before);
      throw error;
    }
    return true;
  }

  #holds(prefix: Prefix): boolean {
    const text = formatPrefix(prefix);
    return this.#allocator.uses(prefix.family).some((one) => formatPrefix(one.prefix) === text);
  }

  #write(also: () => void): void {
    const { save, transact } = this.#dependencies;
    transact(() => {
      save(this.#allocator.toState());
      also();
    });
  }

  #giveBack(owner: string, addresses: readonly Address[]): void {
    for (const address of addresses) this.#allocator.free(address, owner, this.#dependencies.now?.());
  }
}
