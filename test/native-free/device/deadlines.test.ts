import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Deadlines } from '../../../native-free/device/deadlines.ts';

const NEVER = Number.POSITIVE_INFINITY;

const step = fc.record({
  item: fc.nat(20),
  at: fc.oneof(fc.nat(50), fc.constantFrom(NEVER, Number.NEGATIVE_INFINITY)),
});

test('deadlines say what a list that is searched from end to end does', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200 }), fc.nat(50), (steps, now) => {
      const deadlines = new Deadlines<number>();
      const list = new Map<number, number>();
      for (const { item, at } of steps) {
        deadlines.set(item, at);
        list.set(item, at);
        expect(deadlines.next).toBe(Math.min(NEVER, ...list.values()));
      }
      const due = [...list].filter(([, at]) => at <= now).map(([item]) => item);
      expect(deadlines.due(now).sort((a, b) => a - b)).toEqual(due.sort((a, b) => a - b));
    }),
  );
});

test('what is due stays due until it is set anew, and what is deleted is not', () => {
  const deadlines = new Deadlines<string>();
  deadlines.set('a', 1);
  deadlines.set('b', 2);
  expect(deadlines.due(2)).toHaveLength(2);
  deadlines.set('a', 3);
  expect(deadlines.due(2)).toEqual(['b']);
  deadlines.delete('b');
  expect(deadlines.due(2)).toEqual([]);
  expect(deadlines.next).toBe(3);
  deadlines.delete('unheard of');
  deadlines.delete('a');
  expect(deadlines.next).toBe(NEVER);
});
