// What a flow may send before it waits in line like the others, by a clock of the test's own.

import { expect, test } from 'vitest';
import { SparseFlows } from '../../../native-free/wire/sparse-flows.ts';

const START = 1_000_000;

/** How many of `count` packets of `bytes` of a flow, `apart` ms from each other, were of a sparse flow. */
const sparseOf = (flows: SparseFlows, hash: number, count: number, bytes: number, apart: number): number => {
  let sparse = 0;
  for (let i = 0; i < count; i++) if (flows.take(hash, bytes, START + i * apart)) sparse += 1;
  return sparse;
};

test('a flow of pings is sparse for good, whatever the first time was', () => {
  expect(sparseOf(new SparseFlows(), 1, 10_000, 100, 2)).toBe(10_000);
  expect(new SparseFlows().take(7, 1500, 0)).toBe(true);
});

test('the first flight of a TCP connection is sparse, and what follows it at once is not', () => {
  const flows = new SparseFlows();
  expect(sparseOf(flows, 1, 10, 1500, 0)).toBe(10);
  expect(sparseOf(flows, 1, 100, 1500, 0)).toBe(0);
});

test('a flow at full speed is never sparse again, also where it sends one packet a millisecond', () => {
  const flows = new SparseFlows();
  expect(sparseOf(flows, 1, 10_000, 1500, 0.01)).toBe(10);
  expect(sparseOf(flows, 2, 10_000, 1500, 1)).toBeLessThan(20);
});

/** A flow that has sent much, and then little every `apart` ms: when each of these was sent, and whether it was sparse. */
const afterMuch = (apart: number, count: number): readonly (readonly [number, boolean])[] => {
  const flows = new SparseFlows();
  for (let i = 0; i < 1000; i++) flows.take(1, 1500, START);
  return Array.from({ length: count }, (_, i) => {
    const after = apart * (i + 1);
    return [after, flows.take(1, 100, START + after)] as const;
  });
};

test('a flow that has sent much is sparse again a twentieth of a second later, and not sooner', () => {
  expect(afterMuch(49, 1)).toEqual([[49, false]]);
  expect(afterMuch(52, 1)).toEqual([[52, true]]);
  const answers = afterMuch(20, 20);
  expect(answers.filter(([after, isSparse]) => after < 50 && isSparse)).toEqual([]);
  expect(answers.filter(([after, isSparse]) => after > 70 && !isSparse)).toEqual([]);
});

test('nor before it pauses: what it sends a few milliseconds after the last would overtake that', () => {
  expect(afterMuch(5, 1000).some(([, isSparse]) => isSparse)).toBe(false);
});

test('a flow near what it may send for good does not change again and again', () => {
  for (const bytes of [100, 300, 1400]) {
    const flows = new SparseFlows();
    let changes = 0;
    let was = true;
    for (let now = START; now < START + 20_000; now += bytes / 260) {
      const isSparse = flows.take(1, bytes, now);
      if (isSparse !== was) changes += 1;
      was = isSparse;
    }
    expect(changes).toBe(1);
  }
});

test('what one flow sends is nothing to another', () => {
  const flows = new SparseFlows();
  sparseOf(flows, 5, 1000, 1500, 0);
  expect(flows.take(6, 1500, START)).toBe(true);
  expect(flows.take(5, 1500, START)).toBe(false);
});

test('hashes are unsigned numbers of 32 bits, and a super-packet counts as what it carries', () => {
  const flows = new SparseFlows();
  expect(flows.take(0xffff_ffff, 65_000, START)).toBe(false);
  expect(flows.take(0xffff_fffe, 16_000, START)).toBe(true);
});
