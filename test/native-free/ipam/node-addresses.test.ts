// Allocations and what is written of them stay in step, also when writing fails.

import { expect, test } from 'vitest';
import { Allocator, type AllocatorState } from '../../../native-free/ipam/allocator.ts';
import { NodeAddresses } from '../../../native-free/ipam/node-addresses.ts';
import { formatAddress, parsePrefix } from '../../../native-free/ipam/prefix.ts';

/** A disk that keeps the transactions it has room for. */
const start = () => {
  const disk = { isFull: false, state: new Allocator().toState(), notes: [] as string[] };
  const allocator = new Allocator();
  allocator.addPrefix(parsePrefix('10.60.0.0/29'));
  let pending: { state: AllocatorState; notes: string[] } = { state: disk.state, notes: [] };
  const addresses = new NodeAddresses({
    allocator,
    save: (state) => {
      pending.state = state;
    },
    transact: (change) => {
      pending = { state: disk.state, notes: [] };
      change();
      if (disk.isFull) throw new Error('full');
      disk.state = pending.state;
      disk.notes.push(...pending.notes);
    },
  });
  const note = (text: string) => () => void pending.notes.push(text);
  return { disk, allocator, addresses, note };
};

const owners = (state: AllocatorState): string[] =>
  state.prefixes.flatMap(({ used }) => Object.values(used)).sort();

test('an address and what goes with it are written together', () => {
  const { disk, addresses, note } = start();
  const taken = addresses.take('a', [4], [], note('a has one'));
  expect('addresses' in taken && taken.addresses.map(formatAddress)).toEqual(['10.60.0.2']);
  expect(owners(disk.state)).toEqual(['a']);
  expect(disk.notes).toEqual(['a has one']);
});

test('an allocation that cannot be written down has not happened', () => {
  const { disk, allocator, addresses, note } = start();
  disk.isFull = true;
  const before = allocator.toState();
  expect(() => addresses.take('a', [4], [], note('a has one'))).toThrow('full');
  expect(allocator.size).toBe(0);
  // Nor does the address rest now, as if it had been somebody's.
  expect(allocator.toState()).toEqual(before);
  expect(disk.notes).toEqual([]);
});

test('a release that cannot be written down has not happened: nobody else gets the address', () => {
  const { disk, addresses, note } = start();
  const taken = addresses.take('a', [4], [], note('a has one'));
  if (!('addresses' in taken)) return expect.fail('there is room');
  disk.isFull = true;
  expect(() => addresses.free('a', taken.addresses, note('a has none'))).toThrow('full');
  disk.isFull = false;
  // More than there are addresses: whoever gets one, it is not a's.
  const given = ['b', 'c', 'd', 'e', 'f', 'g'].flatMap((owner) => {
    const other = addresses.take(owner, [4], [], note(owner));
    return 'addresses' in other ? other.addresses.map(formatAddress) : [];
  });
  expect(given).toEqual(['10.60.0.3', '10.60.0.4', '10.60.0.5', '10.60.0.6']);
  expect(owners(disk.state)).toContain('a');
});

test('where a family has none left, nothing is taken of the other', () => {
  const { allocator, addresses, note } = start();
  expect(addresses.take('a', [4, 6], [], note('a'))).toEqual({ missing: 6 });
  expect(allocator.size).toBe(0);
});

test('what belongs to nobody is freed, and so written down', () => {
  const { disk, addresses, note } = start();
  for (const owner of ['a', 'b']) addresses.take(owner, [4], [], note(owner));
  expect(addresses.freeStrangers(new Set(['b']))).toEqual(['a']);
  expect(owners(disk.state)).toEqual(['b']);
  expect(addresses.freeStrangers(new Set(['b']))).toEqual([]);
});

test('takes that fail do not keep what was given back from resting', () => {
  let now = 1000;
  const allocator = new Allocator({ prefixes: [] }, now, 100);
  const addresses = new NodeAddresses({
    allocator,
    now: () => now,
    save: () => undefined,
    transact: (change) => change(),
  });
  addresses.addPrefix(parsePrefix('10.60.0.0/30'), () => undefined);
  const nothing = (): void => undefined;
  const taken = addresses.take('a', [4], [], nothing);
  if (!('addresses' in taken)) throw new Error('nothing taken');
  addresses.free('a', taken.addresses, nothing);
  for (now = 1010; now < 1100; now += 10)
    expect(addresses.take('b', [4], [], nothing)).toEqual({ missing: 4 });
  expect('addresses' in addresses.take('b', [4], [], nothing)).toBe(true);
});
