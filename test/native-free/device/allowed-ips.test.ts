import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { AllowedIps } from '../../../native-free/device/allowed-ips.ts';
import {
  buildAllowedIpsTable,
  lookupV4,
  lookupV6,
  NO_PEER,
} from '../../../native-free/device/allowed-ips-table.ts';
import {
  type Address,
  addressBytes,
  type Family,
  familyBits,
  formatPrefix,
  type Prefix,
  parseAddress,
  parsePrefix,
  prefixContains,
} from '../../../native-free/ipam/prefix.ts';

// Few distinct bits, in a few places, so that prefixes nest and collide.
const value = (family: Family): fc.Arbitrary<bigint> =>
  fc
    .tuple(
      fc.constantFrom(0n, 10n << 24n, 0xffffffffn, 0xfdn << 120n),
      fc.array(fc.nat(127), { maxLength: 4 }),
    )
    .map(([base, flips]) => {
      const bits = BigInt(familyBits(family));
      let result = BigInt.asUintN(Number(bits), base);
      for (const flip of flips) result ^= 1n << (BigInt(flip) % bits);
      return result;
    });

const family = fc.constantFrom<Family>(4, 6);

const prefixArbitrary: fc.Arbitrary<Prefix> = family.chain((family) =>
  fc.tuple(value(family), fc.integer({ min: 0, max: familyBits(family) })).map(([value, length]) => {
    const host = BigInt(familyBits(family) - length);
    return { family, value: (value >> host) << host, length };
  }),
);

const addressArbitrary: fc.Arbitrary<Address> = family.chain((family) =>
  value(family).map((value) => ({ family, value })),
);

/** The slow twin: a list, searched from end to end. */
class Linear {
  entries: { prefix: Prefix; value: string }[] = [];
  insert(prefix: Prefix, value: string) {
    this.entries = this.entries.filter((entry) => formatPrefix(entry.prefix) !== formatPrefix(prefix));
    this.entries.push({ prefix, value });
  }
  remove(prefix: Prefix, value: string) {
    this.entries = this.entries.filter(
      (entry) => entry.value !== value || formatPrefix(entry.prefix) !== formatPrefix(prefix),
    );
  }
  removeAll(value: string) {
    this.entries = this.entries.filter((entry) => entry.value !== value);
  }
  lookup(address: Address): string | undefined {
    let best: { prefix: Prefix; value: string } | undefined;
    for (const entry of this.entries)
      if (prefixContains(entry.prefix, address) && entry.prefix.length >= (best?.prefix.length ?? 0))
        best = entry;
    return best?.value;
  }
}

const peer = fc.constantFrom('a', 'b', 'c');
const operation = fc.oneof(
  {
    arbitrary: fc.record({ kind: fc.constant('insert' as const), prefix: prefixArbitrary, peer }),
    weight: 8,
  },
  { arbitrary: fc.record({ kind: fc.constant('move' as const), index: fc.nat(), peer }), weight: 2 },
  { arbitrary: fc.record({ kind: fc.constant('remove' as const), index: fc.nat(), peer }), weight: 3 },
  { arbitrary: fc.record({ kind: fc.constant('removeAll' as const), peer }), weight: 1 },
);

describe('allowed IPs', () => {
  it('hold and find what a linear list does, after any sequence of changes; the flat table too', () => {
    fc.assert(
      fc.property(
        fc.array(operation, { maxLength: 40 }),
        fc.array(addressArbitrary, { minLength: 5, maxLength: 30 }),
        (operations, addresses) => {
          const trie = new AllowedIps<string>();
          const linear = new Linear();
          for (const step of operations) {
            if (step.kind === 'insert') {
              trie.insert(step.prefix, step.peer);
              linear.insert(step.prefix, step.peer);
            } else if (step.kind === 'removeAll') {
              trie.removeAll(step.peer);
              linear.removeAll(step.peer);
            } else {
              const prefix = linear.entries[step.index % Math.max(1, linear.entries.length)]?.prefix;
              if (prefix === undefined) continue;
              if (step.kind === 'move') {
                trie.insert(prefix, step.peer);
                linear.insert(prefix, step.peer);
              } else {
                const isHeld = linear.entries.some((e) => e.prefix === prefix && e.value === step.peer);
                expect(trie.remove(prefix, step.peer)).toBe(isHeld);
                linear.remove(prefix, step.peer);
              }
            }
          }
          const text = ({ prefix, value }: { prefix: Prefix; value: string }) =>
            `${formatPrefix(prefix)} ${value}`;
          expect([...trie.entries()].map(text).sort()).toEqual(linear.entries.map(text).sort());
          for (const holder of ['a', 'b', 'c']) {
            const held = linear.entries.filter(({ value }) => value === holder);
            expect(trie.heldBy(holder)).toEqual(held.map(({ prefix }) => prefix));
          }
          const table = buildAllowedIpsTable(
            [...trie.entries()].map(({ prefix, value }) => ({ prefix, value: value.charCodeAt(0) })),
          );
          // Addresses at the edges of what is held, besides any.
          const edges = linear.entries.flatMap(({ prefix }): Address[] => {
            const size = 1n << BigInt(familyBits(prefix.family) - prefix.length);
            return [
              prefix,
              { ...prefix, value: prefix.value + size - 1n },
              { ...prefix, value: BigInt.asUintN(familyBits(prefix.family), prefix.value + size) },
            ];
          });
          for (const address of [...addresses, ...edges]) {
            const expected = linear.lookup(address);
            const bytes = addressBytes(address);
            expect(trie.lookup(bytes)).toBe(expected);
            const padded = new Uint8Array(24);
            padded.set(bytes, 3);
            const lookup = address.family === 4 ? lookupV4 : lookupV6;
            expect(lookup(table, padded, 3)).toBe(expected?.charCodeAt(0) ?? NO_PEER);
          }
        },
      ),
      { numRuns: 500 },
    );
  });

  it('move when inserted for another peer', () => {
    const trie = new AllowedIps<string>();
    const prefix = parsePrefix('10.0.0.0/8');
    trie.insert(prefix, 'a');
    trie.insert(prefix, 'b');
    expect(trie.heldBy('a')).toEqual([]);
    expect(trie.heldBy('b')).toEqual([prefix]);
    expect(trie.lookup(addressBytes(parseAddress('10.1.1.1')))).toBe('b');
  });

  it('are not taken away by a peer that does not hold them', () => {
    const trie = new AllowedIps<string>();
    const prefix = parsePrefix('fd00::/8');
    trie.insert(prefix, 'a');
    expect(trie.remove(prefix, 'b')).toBe(false);
    expect(trie.remove(parsePrefix('fd00::/9'), 'a')).toBe(false);
    expect(trie.lookup(addressBytes(parseAddress('fd00::1')))).toBe('a');
  });

  it('are found by a table over shared memory with thousands of prefixes', () => {
    const entries = Array.from({ length: 5000 }, (_, i) => ({
      prefix: { family: 4 as const, value: (10n << 24n) | (BigInt(i) << 8n), length: 24 },
      value: i,
    }));
    const table = buildAllowedIpsTable(entries);
    expect(table.buffer).toBeInstanceOf(SharedArrayBuffer);
    for (const { prefix, value } of entries)
      expect(lookupV4(table, addressBytes({ ...prefix, value: prefix.value + 7n }), 0)).toBe(value);
    expect(lookupV4(table, addressBytes(parseAddress('10.200.0.1')), 0)).toBe(NO_PEER);
    expect(lookupV4(table, addressBytes(parseAddress('11.0.0.1')), 0)).toBe(NO_PEER);
  });

  it('of an empty table are nobody', () => {
    const table = buildAllowedIpsTable([]);
    expect(lookupV4(table, new Uint8Array(4), 0)).toBe(NO_PEER);
    expect(lookupV6(table, new Uint8Array(16), 0)).toBe(NO_PEER);
  });
});
