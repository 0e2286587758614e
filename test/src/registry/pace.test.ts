import { expect, test } from 'vitest';
import { Pace } from '../../../src/registry/pace.ts';

test('few watchers are served again within a millisecond or two, many a few times a second', () => {
  const pace = new Pace();
  expect(pace.next(1, 1000.2)).toBe(1001);
  expect(pace.next(100, 1000.2)).toBe(1050);
  expect(pace.next(20_000, 1000.2)).toBe(1250);
});

test('all rest to the same moments', () => {
  const pace = new Pace();
  const moments = [1001, 1100, 1249].map((now) => pace.next(500, now));
  expect(new Set(moments)).toEqual(new Set([1250]));
});

test('rests grow with the length of a round, up to a bound, and their moments stay common', () => {
  const pace = new Pace();
  pace.wentOn(1000, 1010);
  pace.wentOn(1000, 1400);
  const moment = pace.next(500, 1401);
  expect(moment % 250).toBe(0);
  expect(moment).toBe(2000);
  expect(pace.next(500, 1999)).toBe(2000);
  pace.wentOn(2000, 99_000);
  expect(pace.next(500, 99_001) - 99_001).toBeLessThanOrEqual(4096);
});

test('and shrink again when rounds are short', () => {
  const pace = new Pace();
  pace.wentOn(1000, 2000);
  pace.wentOn(3000, 3001);
  pace.wentOn(5000, 5001);
  expect(pace.next(500, 5002)).toBe(5250);
});
