import { expect, test } from 'vitest';
import { Listing } from '../../../native-free/registry/listing.ts';

const listing = (): Listing => {
  const one = new Listing();
  one.begin('store', 100);
  one.add('here');
  return one;
};

test('while the registry has not said that it is not recovering, who is absent may hold what it held', () => {
  const one = listing();
  expect([one.mayHold('here'), one.mayHold('gone')]).toEqual([true, true]);
  expect([one.has('here'), one.has('gone')]).toEqual([true, false]);
});

test('once it has, it counts who is on the list', () => {
  const one = listing();
  expect(one.decided('store', 100)).toBe(true);
  expect([one.mayHold('here'), one.mayHold('gone')]).toEqual([true, false]);
  one.add('gone');
  expect(one.mayHold('gone')).toBe(true);
  one.remove('here');
  expect(one.mayHold('here')).toBe(false);
  expect(one.decided('store', 101)).toBe(false);
});

test('an answer that was asked for before the list, or of another store, decides nothing', () => {
  const one = listing();
  expect(one.decided('store', 99)).toBe(false);
  expect(one.decided('other', 200)).toBe(false);
  expect(one.mayHold('gone')).toBe(true);
});

test('a list that begins anew, or a registry that lost its memory, has decided nothing', () => {
  const begun = listing();
  begun.decided('store', 100);
  begun.begin('store', 200);
  expect([begun.mayHold('gone'), begun.has('here')]).toEqual([true, false]);
  const doubted = listing();
  doubted.decided('store', 100);
  doubted.doubted();
  expect([doubted.mayHold('gone'), doubted.has('here')]).toEqual([true, true]);
  expect(doubted.decided('store', 300)).toBe(true);
});
