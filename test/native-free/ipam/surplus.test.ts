// A further prefix goes back when it is not needed, and not before.

import { expect, test } from 'vitest';
import type { PrefixUse } from '../../../native-free/ipam/allocator.ts';
import { formatPrefix, parsePrefix } from '../../../native-free/ipam/prefix.ts';
import { surplusPrefix } from '../../../native-free/ipam/surplus.ts';

const prefix = (text: string, used: number, free: number, emptySince?: number): PrefixUse => ({
  prefix: parsePrefix(text),
  used,
  free: BigInt(free),
  emptySince,
});
const surplus = (uses: PrefixUse[], now = 1000): string | undefined => {
  const found = surplusPrefix(uses, now, 100);
  return found && formatPrefix(found);
};
const [FIRST, SECOND, THIRD] = ['10.0.0.0/24', '10.0.1.0/24', '10.0.2.0/24'];

test('an empty further prefix goes when the others have room, the youngest first', () => {
  const uses = [prefix(FIRST, 10, 243), prefix(SECOND, 0, 253, 500), prefix(THIRD, 0, 253, 800)];
  expect(surplus(uses)).toBe(THIRD);
  expect(surplus(uses.slice(0, 2))).toBe(SECOND);
});

test('the first prefix stays, however empty', () => {
  expect(surplus([prefix(FIRST, 0, 253, 0), prefix(SECOND, 1, 252)])).toBeUndefined();
  expect(surplus([])).toBeUndefined();
});

test('one that is used, or was a moment ago, stays', () => {
  expect(surplus([prefix(FIRST, 0, 253, 0), prefix(SECOND, 0, 253, 901)])).toBeUndefined();
  expect(surplus([prefix(FIRST, 0, 253, 0), prefix(SECOND, 0, 253, 900)])).toBe(SECOND);
});

test('one stays while the others have no room for who comes next', () => {
  expect(surplus([prefix(FIRST, 193, 60), prefix(SECOND, 0, 253, 0)])).toBeUndefined();
  expect(surplus([prefix(FIRST, 189, 64), prefix(SECOND, 0, 253, 0)])).toBe(SECOND);
});

test('one that is excluded as a whole goes also when the others are full', () => {
  expect(surplus([prefix(FIRST, 253, 0), prefix(SECOND, 0, 0, 0)])).toBe(SECOND);
});
