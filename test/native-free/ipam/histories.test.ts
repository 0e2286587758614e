// Random histories of one node's addresses: taken, asked for, given back, ranges excluded and admitted, prefixes got and given
// back, a disk that fails, crashes and reboots. Beside them a list of who has what, as plain as can be.

import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Allocator, type AllocatorState } from '../../../native-free/ipam/allocator.ts';
import { NodeAddresses } from '../../../native-free/ipam/node-addresses.ts';
import {
  type Address,
  formatAddress,
  formatPrefix,
  parseAddress,
  parsePrefix,
  prefixContains,
} from '../../../native-free/ipam/prefix.ts';
import { surplusPrefix } from '../../../native-free/ipam/surplus.ts';

const REST = 60;
const EMPTY = 300;
const PREFIXES = ['10.60.0.0/29', '10.60.0.8/29', '10.60.0.16/28', '10.60.0.32/30'];
const RANGES = ['10.60.0.0/30', '10.60.0.4/31', '10.60.0.8/29', '10.60.0.20/30'];

type Step =
  | { kind: 'take'; early: boolean; asked: number | undefined; preferred: number }
  | { kind: 'free'; which: number }
  | { kind: 'wait'; ms: number }
  | { kind: 'exclude'; ranges: string[] }
  | { kind: 'add'; prefix: string }
  | { kind: 'shrink' }
  | { kind: 'disk'; isFull: boolean }
  | { kind: 'restart'; isReboot: boolean };

const offset = fc.integer({ min: 0, max: 40 });
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({
      kind: fc.constant('take'),
      early: fc.boolean(),
      asked: fc.option(offset, { nil: undefined, freq: 3 }),
      preferred: offset,
    }),
  },
  { weight: 6, arbitrary: fc.record({ kind: fc.constant('free'), which: fc.nat(100) }) },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('wait'), ms: fc.integer({ min: 0, max: 200 }) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('exclude'), ranges: fc.subarray(RANGES) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('add'), prefix: fc.constantFrom(...PREFIXES) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('shrink') }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('disk'), isFull: fc.boolean() }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('restart'), isReboot: fc.boolean() }) },
);

const at = (last: number): Address => parseAddress(`10.60.0.${last}`);

class History {
  now = 1_000;
  excluded: string[] = [];
  isFull = false;
  disk: { state: AllocatorState; owners: Map<string, string> } = {
    state: { prefixes: [] },
    owners: new Map(),
  };
  /** By address: when it was last given back, as far as this life knows. */
  freedAt = new Map<string, number>();
  #allocator = new Allocator({ prefixes: [] }, this.now, REST);
  #addresses = this.#start();
  #ids = 0;

  #start(): NodeAddresses {
    let pending = this.disk;
    return new NodeAddresses({
      allocator: this.#allocator,
      now: () => this.now,
      save: (state) => {
        pending.state = structuredClone(state);
      },
      transact: (change) => {
        const before = this.disk;
        this.disk = { state: before.state, owners: new Map(before.owners) };
        pending = this.disk;
        try {
          change();
          if (this.isFull) throw new Error('full');
        } catch (error) {
          this.disk = before;
          throw error;
        }
      },
    });
  }

  run(one: Step): void {
    try {
      this.#step(one);
    } catch (error) {
      if (!(error instanceof Error && error.message === 'full')) throw error;
    }
    this.#judge();
  }

  #step(one: Step): void {
    switch (one.kind) {
      case 'take':
        this.#take(one);
        return;
      case 'free': {
        const [address, owner] = [...this.disk.owners][one.which % Math.max(1, this.disk.owners.size)] ?? [];
        if (address === undefined || owner === undefined) return;
        this.#addresses.free(owner, [parseAddress(address)], () => this.disk.owners.delete(address));
        this.freedAt.set(address, this.now);
        return;
      }
      case 'wait':
        this.now += one.ms;
        return;
      case 'exclude':
        this.excluded = one.ranges;
        return;
      case 'add':
        this.#addresses.addPrefix(parsePrefix(one.prefix), () => undefined);
        return;
      case 'shrink': {
        const uses = this.#addresses.uses(4, this.excluded.map(parsePrefix));
        const surplus = surplusPrefix(uses, this.now, EMPTY);
        if (surplus === undefined) return;
        expect(surplus).not.toEqual(uses[0]?.prefix);
        expect(this.#addresses.removePrefix(surplus, () => undefined)).toBe(true);
        for (const address of this.freedAt.keys())
          if (prefixContains(surplus, parseAddress(address))) this.freedAt.delete(address);
        return;
      }
      case 'disk':
        this.isFull = one.isFull;
        return;
      case 'restart':
        // What counts while it is down is not known to it.
        this.now = one.isReboot ? 5 : this.now + 1_000;
        this.#allocator = new Allocator(this.disk.state, this.now, REST);
        this.#addresses = this.#start();
        this.freedAt.clear();
        return;
    }
  }

  #take({ early, asked, preferred }: Step & { kind: 'take' }): void {
    const owner = `w${this.#ids++}`;
    const excluded = this.excluded.map(parsePrefix);
    const free = this.#addresses.uses(4, excluded).reduce((sum, one) => sum + one.free, 0n);
    const fixed = asked === undefined ? [] : [at(asked)];
    let taken: ReturnType<NodeAddresses['take']>;
    try {
      taken = this.#addresses.take(
        owner,
        [4],
        excluded,
        ([address]) => {
          if (address === undefined) throw new Error('none');
          this.disk.owners.set(formatAddress(address), owner);
        },
        { fixed, preferred: [at(preferred)], early },
      );
    } catch (error) {
      if (asked === undefined || (error instanceof Error && error.message === 'full')) throw error;
      return;
    }
    if (!('addresses' in taken)) {
      // Only what rests is kept back, and only from who can wait.
      expect(free === 0n || !early).toBe(true);
      return;
    }
    const [address] = taken.addresses;
    if (address === undefined) throw new Error('nothing taken');
    const text = formatAddress(address);
    expect(excluded.some((range) => prefixContains(range, address))).toBe(false);
    const wasAsked = fixed.length > 0 || text === formatAddress(at(preferred));
    const freedAt = this.freedAt.get(text);
    if (!wasAsked && freedAt !== undefined) {
      if (!early) expect(this.now - freedAt).toBeGreaterThanOrEqual(REST);
      for (const [other, since] of this.freedAt)
        if (
          !this.disk.owners.has(other) &&
          !excluded.some((range) => prefixContains(range, parseAddress(other)))
        )
          expect(since).toBeGreaterThanOrEqual(freedAt);
    }
    this.freedAt.delete(text);
  }

  #judge(): void {
    // What is on the disk is what is in the memory, each address has one owner, and none is one that no one can have.
    const used = this.disk.state.prefixes.flatMap((one) => Object.entries(one.used));
    expect(new Map(used)).toEqual(this.disk.owners);
    expect(this.#allocator.size).toBe(this.disk.owners.size);
    const state = this.#allocator.toState();
    const prefixes = ({ prefixes }: AllocatorState): string[] => prefixes.map(({ prefix }) => prefix);
    expect(prefixes(state)).toEqual(prefixes(this.disk.state));
    expect(new Map(state.prefixes.flatMap((one) => Object.entries(one.used)))).toEqual(this.disk.owners);
    for (const [address, owner] of this.disk.owners) {
      expect(this.#allocator.ownerOf(parseAddress(address))).toBe(owner);
      const home = PREFIXES.map(parsePrefix).find((prefix) => prefixContains(prefix, parseAddress(address)));
      if (home === undefined) throw new Error(`${address} is in no prefix`);
      const place = parseAddress(address).value - home.value;
      expect(
        place > 1n && place < (1n << BigInt(32 - home.length)) - 1n,
        `${address} of ${formatPrefix(home)}`,
      ).toBe(true);
    }
    expect(this.#addresses.freeStrangers(new Set(this.disk.owners.values()))).toEqual([]);
  }
}

test('in no history an address is held twice, early, excluded or forgotten', () => {
  let steps = 0;
  fc.assert(
    fc.property(fc.array(step, { minLength: 1, maxLength: 200, size: 'max' }), (history) => {
      const node = new History();
      node.run({ kind: 'add', prefix: '10.60.0.0/29' });
      for (const one of history) node.run(one);
      steps += history.length;
    }),
    { numRuns: 300 },
  );
  expect(steps).toBeGreaterThan(10_000);
});
