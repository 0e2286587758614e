import { expect, test } from 'vitest';
import { Totals } from '../../../src/metrics/totals.ts';

test('a total never goes down, whatever its parts do', () => {
  const totals = new Totals();
  const red = { network: 'red' };
  const after = (counts: Record<string, number>): number => {
    totals.take(red, new Map(Object.entries(counts)));
    return totals.samples[0]?.[1] ?? -1;
  };
  expect(after({ a: 10, b: 5 })).toBe(15);
  expect(after({ a: 12 })).toBe(17);
  // b is back and began at nothing, a began anew.
  expect(after({ a: 3, b: 4 })).toBe(24);
  expect(after({})).toBe(24);
});

test('what has other labels is another total', () => {
  const totals = new Totals();
  totals.take({ network: 'red' }, new Map([['a', 1]]));
  totals.take({ network: 'green' }, new Map([['a', 2]]));
  expect(totals.samples).toEqual([
    [{ network: 'red' }, 1],
    [{ network: 'green' }, 2],
  ]);
});
