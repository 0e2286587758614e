import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type Address, formatAddress, parseAddress } from '../../../native-free/ipam/prefix.ts';
import { type NamedAddresses, NameTable } from '../../../native-free/names/name-table.ts';

const named = (name: string, ...addresses: string[]): NamedAddresses => ({
  name,
  addresses: addresses.map(parseAddress),
});

describe('a table of names', () => {
  test('gives the addresses of all who hold a name, in their order', () => {
    const table = new NameTable();
    table.set('n2', [named('web', '10.0.2.1')]);
    table.set('n1', [named('web', '10.0.1.1', 'fd00::1')]);
    expect(table.addresses('web').map(formatAddress)).toEqual(['10.0.1.1', '10.0.2.1', 'fd00::1']);
    table.set('n2', []);
    expect(table.addresses('web').map(formatAddress)).toEqual(['10.0.1.1', 'fd00::1']);
  });

  test('of a holder whose two workloads have one name gives both', () => {
    const table = new NameTable();
    table.set('n1', [named('web', '10.0.1.1'), named('web', '10.0.1.2')]);
    expect(table.addresses('web')).toHaveLength(2);
  });

  test('changes its serial with every change, and with none else', () => {
    const table = new NameTable();
    const { serial } = table;
    table.set('n1', []);
    expect(table.serial).toBe(serial);
    table.set('n1', [named('web', '10.0.1.1')]);
    expect(table.serial).not.toBe(serial);
  });

  test('after any history is what the last of each holder says', () => {
    const address = fc.nat(9).map((low): Address => ({ family: 4, value: BigInt(low) }));
    const entry = fc.record({
      name: fc.constantFrom('a', 'b', 'a.b', 'x.a.b', 'b.a'),
      addresses: fc.array(address, { maxLength: 3 }),
    });
    const step = fc.record({
      holder: fc.constantFrom('n1', 'n2', 'n3'),
      entries: fc.array(entry, { maxLength: 4 }),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 12 }), (history) => {
        const table = new NameTable();
        const last = new Map<string, readonly NamedAddresses[]>();
        for (const { holder, entries } of history) {
          table.set(holder, entries);
          last.set(holder, entries);
        }
        const all = [...last.values()].flat().filter(({ addresses }) => addresses.length > 0);
        for (const name of ['a', 'b', 'a.b', 'x.a.b', 'b.a']) {
          const expected = all.filter((one) => one.name === name).flatMap(({ addresses }) => addresses);
          expect(new Set(table.addresses(name).map(formatAddress))).toEqual(
            new Set(expected.map(formatAddress)),
          );
          expect(table.isPartOfNames(name)).toBe(all.some((one) => one.name.endsWith(`.${name}`)));
        }
        for (let low = 0; low < 10; low++) {
          const value = BigInt(low);
          const names = all
            .filter(({ addresses }) => addresses.some((one) => one.value === value))
            .map(({ name }) => name);
          expect(table.names({ family: 4, value })).toEqual([...new Set(names)].sort());
        }
      }),
    );
  });
});
