import { expect, test } from 'vitest';
import { budgetSentence, duration, isLow, outageBudget } from '../../../src/agent/outage-budget.ts';

const HOUR = 3_600_000;
const DAY = 24 * HOUR;
const term = { termMs: 7 * DAY, since: { bootId: 'b', boot: 0, wall: 0 } };

test('the budget is the least of what the SVID and the leases leave, less the margin in which nothing is allocated', () => {
  const svid = { leftMs: 6.5 * DAY, termMs: 7 * DAY };
  expect(outageBudget({ svid, leases: [] })).toEqual({
    leftMs: 6.5 * DAY,
    termMs: 7 * DAY,
    takedownMs: null,
  });
  const leases = [
    { leftMs: 6 * DAY, term },
    { leftMs: 5 * DAY, term },
  ];
  expect(outageBudget({ svid, leases })).toEqual({
    leftMs: 5 * DAY - 0.14 * DAY,
    termMs: 7 * DAY,
    takedownMs: 5 * DAY - 0.07 * DAY,
  });
  expect(outageBudget({ svid: { ...svid, leftMs: -5 }, leases }).leftMs).toBe(0);
});

test('it is low when half of it is used up', () => {
  expect(isLow({ leftMs: 4 * DAY, termMs: 7 * DAY, takedownMs: null })).toBe(false);
  expect(isLow({ leftMs: 3 * DAY, termMs: 7 * DAY, takedownMs: null })).toBe(true);
});

test('the sentence says until when, and what happens then', () => {
  const now = Date.parse('2026-01-01T00:00:00Z');
  const budget = { leftMs: 5 * DAY + 22 * HOUR, termMs: 7 * DAY, takedownMs: 6 * DAY };
  expect(budgetSentence(budget, now)).toBe(
    'the registry may be gone for another 5 d 22 h; then new attachments stop, and at 2026-01-07T00:00:00Z attachments are taken down',
  );
  expect(budgetSentence({ ...budget, leftMs: 0 }, now)).toMatch(/nothing new is attached/);
  expect(budgetSentence({ ...budget, leftMs: 0, takedownMs: 0 }, now)).toMatch(/has been taken down/);
  expect(budgetSentence({ ...budget, takedownMs: null }, now)).not.toMatch(/taken down/);
});

test.each([
  [0, '0 s'],
  [999, '0 s'],
  [59_000, '59 s'],
  [61_000, '1 min 1 s'],
  [5 * DAY + 22 * HOUR, '5 d 22 h'],
])('%i ms are "%s"', (milliseconds, text) => {
  expect(duration(milliseconds)).toBe(text);
});
