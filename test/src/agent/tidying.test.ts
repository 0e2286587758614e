import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { Tidying } from '../../../src/agent/tidying.ts';

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

test('what a start and many attachments needed is given back once there is peace, and not after every few', () => {
  const tidy = vi.fn();
  using tidying = new Tidying(tidy);
  vi.advanceTimersByTime(14_000);
  expect(tidy).not.toHaveBeenCalled();
  vi.advanceTimersByTime(1000);
  expect(tidy).toHaveBeenCalledTimes(1);
  for (let i = 0; i < 49; i++) tidying.changed();
  vi.advanceTimersByTime(60_000);
  expect(tidy).toHaveBeenCalledTimes(1);
  tidying.changed();
  vi.advanceTimersByTime(14_000);
  tidying.changed();
  vi.advanceTimersByTime(14_000);
  expect(tidy).toHaveBeenCalledTimes(1);
  vi.advanceTimersByTime(1000);
  expect(tidy).toHaveBeenCalledTimes(2);
});

test('nothing is done any more once it is over', () => {
  const tidy = vi.fn();
  new Tidying(tidy)[Symbol.dispose]();
  vi.advanceTimersByTime(60_000);
  expect(tidy).not.toHaveBeenCalled();
});
