// What a node hands out of its leased prefixes: gateway addresses and one address an attachment. Pure state that its owner
// writes down: `toState` is plain JSON data. Never used addresses go first, then those given back, oldest first, so
// that an address rests for as long as there is another.

import { z } from 'zod';
import { Vl3Error } from '../error.ts';
import {
  type Address,
  type Family,
  familyBits,
  formatAddress,
  formatPrefix,
  type Prefix,
  parseAddress,
  parsePrefix,
  prefixContains,
  prefixCovers,
  prefixSize,
} from './prefix.ts';

const prefixStateSchema = z.strictObject({
  prefix: z.string(),
  /** Offset in the prefix of the first address that was never handed out. */
  next: z.string().regex(/^\d{1,39}$/),
  /** Given back, oldest first. */
  freed: z.array(z.string()),
  /** Address to owner. */
  used: z.record(z.string(), z.string()),
});
export const allocatorStateSchema = z.strictObject({ prefixes: z.array(prefixStateSchema) });
export type AllocatorState = z.infer<typeof allocatorStateSchema>;

interface PrefixState {
  readonly prefix: Prefix;
  next: bigint;
  readonly freed: Set<string>;
  readonly used: Map<string, string>;
}

/** Offset of the gateway: the network address itself is skipped, as IPv4 hosts expect and IPv6 (RFC 4291, 2.6.1) asks. */
const GATEWAY_OFFSET = 1n;

export class Allocator {
  readonly #prefixes: PrefixState[] = [];

  /** Throws Vl3Error('failed-precondition') when the state contradicts itself. */
  constructor(state: AllocatorState = { prefixes: [] }) {
    for (const one of state.prefixes) {
      const prefix = parsePrefix(one.prefix);
      const used = new Map(Object.entries(one.used));
      const freed = new Set(one.freed);
      const inside = [...used.keys(), ...freed].every((text) => prefixContains(prefix, parseAddress(text)));
      if (!inside || one.freed.some((text) => used.has(text)) || BigInt(one.next) > prefixSize(prefix)) {
        throw new Vl3Error('failed-precondition', `the saved allocations of ${one.prefix} contradict themselves`);
      }
      this.#prefixes.push({ prefix, next: BigInt(one.next), freed, used });
    }
  }

  toState(): AllocatorState {
    return {
      prefixes: this.#prefixes.map(({ prefix, next, freed, used }) => ({
        prefix: formatPrefix(prefix),
        next: String(next),
        freed: [...freed],
        used: Object.fromEntries(used),
      })),
    };
  }

  /** Takes a leased prefix into use; one that is known already changes nothing. */
  addPrefix(prefix: Prefix): void {
    if (this.#prefixes.some((one) => formatPrefix(one.prefix) === formatPrefix(prefix))) return;
    this.#prefixes.push({ prefix, next: GATEWAY_OFFSET + 1n, freed: new Set(), used: new Map() });
  }

  /** The node's address on the network: the first usable one of its first prefix. */
  gateway(family: Family): Address | undefined {
    const first = this.#prefixes.find(({ prefix }) => prefix.family === family);
    return first === undefined ? undefined : { family, value: first.prefix.value + GATEWAY_OFFSET };
  }

  /** An address for `owner`; undefined when the node needs another prefix of this family. */
  allocate(family: Family, owner: string, excluded: readonly Prefix[] = []): Address | undefined {
    const ofFamily = this.#prefixes.filter(({ prefix }) => prefix.family === family);
    for (const state of ofFamily) {
      const address = takeNew(state, excluded);
      if (address !== undefined) return hold(state, address, owner);
    }
    for (const state of ofFamily) {
      for (const text of state.freed) {
        const address = parseAddress(text);
        if (excluded.some((prefix) => prefixContains(prefix, address))) continue;
        return hold(state, address, owner);
      }
    }
    return undefined;
  }

  /** Gives an address back. False when `owner` does not hold it. */
  free(address: Address, owner: string): boolean {
    const text = formatAddress(address);
    const state = this.#prefixes.find(({ prefix }) => prefixContains(prefix, address));
    if (state === undefined || state.used.get(text) !== owner) return false;
    state.used.delete(text);
    state.freed.add(text);
    return true;
  }

  /** Who holds the address. */
  ownerOf(address: Address): string | undefined {
    const state = this.#prefixes.find(({ prefix }) => prefixContains(prefix, address));
    return state?.used.get(formatAddress(address));
  }

  /** How many addresses are handed out. */
  get size(): number {
    return this.#prefixes.reduce((sum, { used }) => sum + used.size, 0);
  }
}

const hold = (state: PrefixState, address: Address, owner: string): Address => {
  const text = formatAddress(address);
  state.freed.delete(text);
  state.used.set(text, owner);
  return address;
};

/** The next address that was never handed out, past excluded ranges in one step each. */
const takeNew = (state: PrefixState, excluded: readonly Prefix[]): Address | undefined => {
  const { prefix } = state;
  if (excluded.some((range) => prefixCovers(range, prefix))) return undefined;
  // The last IPv4 address is the subnet's broadcast address to some programs.
  const end = prefixSize(prefix) - (prefix.family === 4 ? 1n : 0n);
  while (state.next < end) {
    const address: Address = { family: prefix.family, value: prefix.value + state.next };
    const range = excluded.find((one) => prefixContains(one, address));
    if (range === undefined) {
      state.next++;
      return address;
    }
    const past = range.value + (1n << BigInt(familyBits(range.family) - range.length)) - prefix.value;
    state.next = past < end ? past : end;
  }
  return undefined;
};
