// What a node hands out of its leased prefixes: gateway addresses and one address an attachment. Pure state that its owner
// writes down: `toState` is plain JSON data. Never used addresses go first, then those given back, oldest first, so
// that an address rests for as long as there is another. How long ranges are skipped: in one step, never one by one.

import { z } from 'zod';
import { Vl3Error } from '../error.ts';
import { GATEWAY_OFFSET, gatewayOf } from './gateway.ts';
import {
  type Address,
  type Family,
  formatAddress,
  formatPrefix,
  type Prefix,
  parseAddress,
  parsePrefix,
  prefixContains,
  prefixesOverlap,
  prefixSize,
} from './prefix.ts';

const offsetSchema = z.string().regex(/^\d{1,39}$/);
const prefixStateSchema = z.strictObject({
  prefix: z.string(),
  /** Offsets in the prefix that were never handed out: ranges [from, to), ascending. */
  fresh: z.array(z.tuple([offsetSchema, offsetSchema])),
  /** Addresses given back, oldest first. */
  freed: z.array(z.string()),
  /** Address to owner. */
  used: z.record(z.string(), z.string()),
});
export const allocatorStateSchema = z.strictObject({ prefixes: z.array(prefixStateSchema) });
export type AllocatorState = z.infer<typeof allocatorStateSchema>;

/** Offsets from `from` up to but without `to`. */
interface Range {
  readonly from: bigint;
  readonly to: bigint;
}

interface PrefixState {
  readonly prefix: Prefix;
  /** Ascending, disjoint, none empty. */
  fresh: Range[];
  /** Values of addresses; a set keeps the order in which they came. */
  readonly freed: Set<bigint>;
  readonly used: Map<bigint, string>;
}

export class Allocator {
  readonly #prefixes: PrefixState[];

  /** Throws Vl3Error('failed-precondition') when the state contradicts itself. */
  constructor(state: AllocatorState = { prefixes: [] }) {
    this.#prefixes = state.prefixes.map(readPrefixState);
    for (const [i, { prefix }] of this.#prefixes.entries()) {
      const other = this.#prefixes.slice(0, i).find((one) => prefixesOverlap(one.prefix, prefix));
      if (other !== undefined) throw contradiction(formatPrefix(prefix));
    }
  }

  toState(): AllocatorState {
    return {
      prefixes: this.#prefixes.map(({ prefix, fresh, freed, used }) => ({
        prefix: formatPrefix(prefix),
        fresh: fresh.map(({ from, to }): [string, string] => [String(from), String(to)]),
        freed: [...freed].map((value) => formatAddress({ family: prefix.family, value })),
        used: Object.fromEntries(
          [...used].map(([value, owner]) => [formatAddress({ family: prefix.family, value }), owner]),
        ),
      })),
    };
  }

  /** Takes a leased prefix into use; one that is known already changes nothing. Throws when it overlaps another. */
  addPrefix(prefix: Prefix): void {
    const other = this.#prefixes.find((one) => prefixesOverlap(one.prefix, prefix));
    if (other === undefined) {
      this.#prefixes.push({ prefix, fresh: usableRanges(prefix), freed: new Set(), used: new Map() });
    } else if (formatPrefix(other.prefix) !== formatPrefix(prefix)) {
      throw new Vl3Error(
        'failed-precondition',
        `${formatPrefix(prefix)} overlaps ${formatPrefix(other.prefix)}, which this node allocates from: give one of them back`,
      );
    }
  }

  /** Forgets a prefix that is given back; false when addresses of it are handed out or it is not known. */
  removePrefix(prefix: Prefix): boolean {
    const index = this.#prefixes.findIndex((one) => formatPrefix(one.prefix) === formatPrefix(prefix));
    const state = this.#prefixes[index];
    if (state === undefined || state.used.size > 0) return false;
    this.#prefixes.splice(index, 1);
    return true;
  }

  /** The node's address on the network: that of its first prefix. */
  gateway(family: Family): Address | undefined {
    const first = this.#prefixes.find(({ prefix }) => prefix.family === family);
    return first === undefined ? undefined : gatewayOf(first.prefix);
  }

  /** An address for `owner`; undefined when the node needs another prefix of this family. */
  allocate(family: Family, owner: string, excluded: readonly Prefix[] = []): Address | undefined {
    const ofFamily = this.#prefixes.filter(({ prefix }) => prefix.family === family);
    for (const state of ofFamily) {
      const value = firstFresh(state, excluded);
      if (value !== undefined) return hold(state, value, owner);
    }
    for (const state of ofFamily) {
      for (const value of state.freed) {
        if (excluded.some((range) => prefixContains(range, { family, value }))) continue;
        return hold(state, value, owner);
      }
    }
    return undefined;
  }

  /**
   * Exactly this address for `owner`, who may hold it already. False when it is another's, excluded, in none of the
   * prefixes, or no address to hand out (network, gateway, broadcast).
   */
  reserve(address: Address, owner: string, excluded: readonly Prefix[] = []): boolean {
    const state = this.#prefixes.find(({ prefix }) => prefixContains(prefix, address));
    if (state === undefined) return false;
    const { value } = address;
    if (state.used.get(value) === owner) return true;
    if (excluded.some((range) => prefixContains(range, address))) return false;
    const offset = value - state.prefix.value;
    if (!state.freed.has(value) && !state.fresh.some(({ from, to }) => from <= offset && offset < to))
      return false;
    hold(state, value, owner);
    return true;
  }

  /** Gives an address back. False when `owner` does not hold it. */
  free(address: Address, owner: string): boolean {
    const state = this.#prefixes.find(({ prefix }) => prefixContains(prefix, address));
    if (state === undefined || state.used.get(address.value) !== owner) return false;
    state.used.delete(address.value);
    state.freed.add(address.value);
    return true;
  }

  /** Who holds the address. */
  ownerOf(address: Address): string | undefined {
    return this.#prefixes.find(({ prefix }) => prefixContains(prefix, address))?.used.get(address.value);
  }

  /** How many addresses are handed out. */
  get size(): number {
    return this.#prefixes.reduce((sum, { used }) => sum + used.size, 0);
  }
}

/** What can be handed out at all. The last IPv4 address is the subnet's broadcast address to some programs. */
const usableRanges = (prefix: Prefix): Range[] => {
  const from = GATEWAY_OFFSET + 1n;
  const to = prefixSize(prefix) - (prefix.family === 4 ? 1n : 0n);
  return from < to ? [{ from, to }] : [];
};

const hold = (state: PrefixState, value: bigint, owner: string): Address => {
  if (!state.freed.delete(value)) {
    const offset = value - state.prefix.value;
    state.fresh = state.fresh.flatMap((range) =>
      offset < range.from || offset >= range.to
        ? [range]
        : [
            { from: range.from, to: offset },
            { from: offset + 1n, to: range.to },
          ].filter(({ from, to }) => from < to),
    );
  }
  state.used.set(value, owner);
  return { family: state.prefix.family, value };
};

/** The lowest address that was never handed out and is not excluded. */
const firstFresh = ({ prefix, fresh }: PrefixState, excluded: readonly Prefix[]): bigint | undefined => {
  const { family } = prefix;
  for (const { from, to } of fresh) {
    const end = prefix.value + to;
    let value = prefix.value + from;
    while (value < end) {
      const range = excluded.find((one) => prefixContains(one, { family, value }));
      if (range === undefined) return value;
      value = range.value + prefixSize(range);
    }
  }
  return undefined;
};

const contradiction = (prefix: string): Vl3Error =>
  new Vl3Error(
    'failed-precondition',
    `the saved allocations of ${prefix} contradict themselves: restore the state directory from a copy, or detach everything and run "vl3 agent clean"`,
  );

const readPrefixState = (state: AllocatorState['prefixes'][number]): PrefixState => {
  const prefix = parsePrefix(state.prefix);
  const [usable] = usableRanges(prefix);
  const value = (text: string): bigint => {
    const address = parseAddress(text);
    const offset = address.value - prefix.value;
    if (
      address.family !== prefix.family ||
      usable === undefined ||
      offset < usable.from ||
      offset >= usable.to
    )
      throw contradiction(state.prefix);
    return address.value;
  };
  const fresh = state.fresh.map(([from, to]) => ({ from: BigInt(from), to: BigInt(to) }));
  const freed = new Set(state.freed.map(value));
  const used = new Map(Object.entries(state.used).map(([text, owner]) => [value(text), owner]));
  let past = usable?.from ?? 0n;
  for (const { from, to } of fresh) {
    if (from < past || from >= to || to > (usable?.to ?? 0n)) throw contradiction(state.prefix);
    past = to;
  }
  const isFresh = (held: bigint): boolean =>
    fresh.some(({ from, to }) => from <= held - prefix.value && held - prefix.value < to);
  if (freed.size + used.size !== state.freed.length + Object.keys(state.used).length)
    throw contradiction(state.prefix);
  for (const held of used.keys()) if (freed.has(held) || isFresh(held)) throw contradiction(state.prefix);
  for (const held of freed) if (isFresh(held)) throw contradiction(state.prefix);
  return { prefix, fresh, freed, used };
};
