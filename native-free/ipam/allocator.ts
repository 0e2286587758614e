// What a node hands out of its leased prefixes: gateway addresses and one address an attachment. Pure state that its owner
// writes down: `toState` is plain JSON data. Never used addresses go first, then those given back, oldest first, once they
// have rested. Times are milliseconds of a clock that only grows within one life; what is written down are ages, so that
// it may begin anew with the next, and time that nobody counted makes a rest longer, never shorter. Long ranges are
// skipped in one step, never one by one.

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
  /** Addresses given back, oldest first, and how long ago; the address alone was written by an earlier version. */
  freed: z.array(z.union([z.tuple([z.string(), z.number().min(0)]), z.string()])),
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
  /** Values of addresses and when they were given back; a map keeps the order in which they came. */
  readonly freed: Map<bigint, number>;
  readonly used: Map<bigint, string>;
  /** Since when no address of it is handed out; meaningless while one is. */
  emptySince: number;
}

/** How an address is chosen. */
export interface Choice {
  /** Absent: no address rests. */
  readonly now?: number;
  /** Also what has not rested yet, when there is nothing else. */
  readonly early?: boolean;
}

/** Why an address that was asked for cannot be had. */
export type Refusal = 'elsewhere' | 'held' | 'excluded' | 'unusable';

export interface PrefixUse {
  readonly prefix: Prefix;
  readonly used: number;
  /** What could be handed out, resting or not. */
  readonly free: bigint;
  /** Undefined: addresses of it are handed out. */
  readonly emptySince: number | undefined;
}

/** How long an address that was given back rests: caches and connections of whoever spoke to its last owner run out. */
export const ADDRESS_REST_MS = 60_000;

export class Allocator {
  #prefixes: PrefixState[] = [];
  readonly #restMs: number;
  /** The latest time it was told. */
  #now: number;

  /** `now`: when this life begins. Throws Vl3Error('failed-precondition') when the state contradicts itself. */
  constructor(state: AllocatorState = { prefixes: [] }, now = 0, restMs = ADDRESS_REST_MS) {
    this.#now = now;
    this.#restMs = restMs;
    this.restore(state);
  }

  /** Goes back to what was written down; throws as the constructor does. */
  restore(state: AllocatorState): void {
    const prefixes = state.prefixes.map((one) => readPrefixState(one, this.#now));
    for (const [i, { prefix }] of prefixes.entries()) {
      const other = prefixes.slice(0, i).find((one) => prefixesOverlap(one.prefix, prefix));
      if (other !== undefined) throw contradiction(formatPrefix(prefix));
    }
    this.#prefixes = prefixes;
  }

  toState(): AllocatorState {
    return {
      prefixes: this.#prefixes.map(({ prefix, fresh, freed, used }) => ({
        prefix: formatPrefix(prefix),
        fresh: fresh.map(({ from, to }): [string, string] => [String(from), String(to)]),
        freed: [...freed].map(([value, at]): [string, number] => [
          formatAddress({ family: prefix.family, value }),
          Math.max(0, this.#now - at),
        ]),
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
      const fresh = usableRanges(prefix);
      this.#prefixes.push({ prefix, fresh, freed: new Map(), used: new Map(), emptySince: this.#now });
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

  /**
   * An address for `owner`; undefined when the node needs another prefix of this family. What is `excluded` is never
   * handed out, but kept by whoever has it.
   */
  allocate(
    family: Family,
    owner: string,
    excluded: readonly Prefix[] = [],
    { now, early }: Choice = {},
  ): Address | undefined {
    this.see(now);
    const ofFamily = this.#prefixes.filter(({ prefix }) => prefix.family === family);
    for (const state of ofFamily) {
      const [gap] = gaps(state, excluded);
      if (gap !== undefined) return hold(state, gap.from, owner);
    }
    let oldest: { state: PrefixState; value: bigint; at: number } | undefined;
    for (const state of ofFamily) {
      for (const [value, at] of state.freed) {
        if (excluded.some((range) => prefixContains(range, { family, value }))) continue;
        if (oldest === undefined || at < oldest.at) oldest = { state, value, at };
        break;
      }
    }
    if (oldest === undefined) return undefined;
    const isResting = now !== undefined && now - oldest.at < this.#restMs;
    return isResting && early !== true ? undefined : hold(oldest.state, oldest.value, owner);
  }

  /** Exactly this address for `owner`, who may hold it already, rested or not; or why it cannot be had. */
  claim(address: Address, owner: string, excluded: readonly Prefix[] = []): Refusal | undefined {
    const state = this.#prefixes.find(({ prefix }) => prefixContains(prefix, address));
    if (state === undefined) return 'elsewhere';
    const { value } = address;
    const holder = state.used.get(value);
    if (holder !== undefined) return holder === owner ? undefined : 'held';
    const offset = value - state.prefix.value;
    const isFree =
      state.freed.has(value) || state.fresh.some(({ from, to }) => from <= offset && offset < to);
    if (!isFree) return 'unusable';
    if (excluded.some((range) => prefixContains(range, address))) return 'excluded';
    hold(state, value, owner);
    return undefined;
  }

  /** As `claim`: false when it cannot be had. */
  reserve(address: Address, owner: string, excluded: readonly Prefix[] = []): boolean {
    return this.claim(address, owner, excluded) === undefined;
  }

  /** Gives an address back. False when `owner` does not hold it. */
  free(address: Address, owner: string, now?: number): boolean {
    this.see(now);
    const state = this.#prefixes.find(({ prefix }) => prefixContains(prefix, address));
    if (state === undefined || state.used.get(address.value) !== owner) return false;
    state.used.delete(address.value);
    state.freed.set(address.value, this.#now);
    if (state.used.size === 0) state.emptySince = this.#now;
    return true;
  }

  /** What is used of each prefix, oldest lease first. */
  uses(family: Family, excluded: readonly Prefix[] = []): PrefixUse[] {
    return this.#prefixes
      .filter(({ prefix }) => prefix.family === family)
      .map((state) => ({
        prefix: state.prefix,
        used: state.used.size,
        free: freeCount(state, excluded),
        emptySince: state.used.size > 0 ? undefined : state.emptySince,
      }));
  }

  /** What time it is; what was freed rests by it. */
  see(now: number | undefined): void {
    if (now !== undefined && now > this.#now) this.#now = now;
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

/** Values of addresses that were never handed out and are not excluded, ascending. */
function* gaps({ prefix, fresh }: PrefixState, excluded: readonly Prefix[]): Generator<Range> {
  const { family } = prefix;
  const near = excluded.filter((one) => prefixesOverlap(one, prefix));
  for (const { from, to } of fresh) {
    const end = prefix.value + to;
    let value = prefix.value + from;
    while (value < end) {
      const inside = near.find((one) => prefixContains(one, { family, value }));
      if (inside !== undefined) {
        value = inside.value + prefixSize(inside);
        continue;
      }
      const next = near.reduce(
        (least, one) => (one.value > value && one.value < least ? one.value : least),
        end,
      );
      yield { from: value, to: next };
      value = next;
    }
  }
}

const freeCount = (state: PrefixState, excluded: readonly Prefix[]): bigint => {
  const { family } = state.prefix;
  let count = 0n;
  for (const { from, to } of gaps(state, excluded)) count += to - from;
  for (const value of state.freed.keys())
    if (!excluded.some((range) => prefixContains(range, { family, value }))) count++;
  return count;
};

const contradiction = (prefix: string): Vl3Error =>
  new Vl3Error(
    'failed-precondition',
    `the saved allocations of ${prefix} contradict themselves: restore the state directory from a copy, or detach everything and run "vl3 agent clean"`,
  );

const readPrefixState = (state: AllocatorState['prefixes'][number], now: number): PrefixState => {
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
  const freed = new Map(
    state.freed.map((one): [bigint, number] =>
      typeof one === 'string' ? [value(one), now] : [value(one[0]), now - one[1]],
    ),
  );
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
  for (const held of freed.keys()) if (isFresh(held)) throw contradiction(state.prefix);
  return { prefix, fresh, freed, used, emptySince: now };
};
