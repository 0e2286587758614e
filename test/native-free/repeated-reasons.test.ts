import { expect, test } from 'vitest';
import { RepeatedReasons } from '../../native-free/repeated-reasons.ts';

const MINUTE = 60_000;

test('a reason is said once, and again after ten minutes with how often it came meanwhile', () => {
  const reasons = new RepeatedReasons();
  expect(reasons.take('gone', 0)).toBe(0);
  for (let i = 1; i < 40; i++) expect(reasons.take('gone', i * 15_000)).toBeUndefined();
  expect(reasons.take('gone', 10 * MINUTE)).toBe(39);
  expect(reasons.take('gone', 11 * MINUTE)).toBeUndefined();
});

test('another reason is said at once, and two that take turns are said once each', () => {
  const reasons = new RepeatedReasons();
  expect(reasons.take('gone', 0)).toBe(0);
  expect(reasons.take('refused', 1)).toBe(0);
  expect(reasons.take('gone', 2)).toBeUndefined();
  expect(reasons.take('refused', 3)).toBeUndefined();
});

test('reasons without end take no memory without end', () => {
  const reasons = new RepeatedReasons(2);
  for (let i = 0; i < 1000; i++) expect(reasons.take(`reason ${i}`, 0)).toBe(0);
  expect(reasons.take('reason 998', 0)).toBeUndefined();
  expect(reasons.take('reason 0', 0)).toBe(0);
});
