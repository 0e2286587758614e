import { expect, test } from 'vitest';
import { LogBudget } from '../../native-free/log-budget.ts';

const taken = (budget: LogBudget, kind: string, times: number, now: number): number =>
  Array.from({ length: times }, () => budget.take(kind, now)).filter((one) => one !== undefined).length;

test('a flood of one kind is cut to a burst and then a line a second', () => {
  const budget = new LogBudget();
  expect(taken(budget, 'refused', 100_000, 0)).toBe(300);
  let logged = 0;
  for (let now = 0; now < 60_000; now += 10) logged += taken(budget, 'refused', 10, now);
  expect(logged).toBe(59);
});

test('what was left out is told once, with the next line of its kind', () => {
  const budget = new LogBudget();
  taken(budget, 'refused', 1000, 0);
  expect(budget.take('refused', 1000)).toBe(700);
  expect(budget.take('refused', 2000)).toBe(0);
});

test('a flood of one kind leaves the others alone', () => {
  const budget = new LogBudget();
  taken(budget, 'refused', 1000, 0);
  expect(budget.take('enrolled', 0)).toBe(0);
});

test('a clock that goes backwards neither grants nor costs a line', () => {
  const budget = new LogBudget();
  expect(taken(budget, 'refused', 299, 5000)).toBe(299);
  expect(budget.take('refused', 0)).toBe(0);
  expect(budget.take('refused', 0)).toBeUndefined();
});
