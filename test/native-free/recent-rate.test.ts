import { expect, test } from 'vitest';
import { RecentRate } from '../../native-free/recent-rate.ts';

const SECOND = 1000;

test('what is added steadily is told as it is, however often it is looked at', () => {
  for (const every of [2, 7, 15]) {
    const rate = new RecentRate();
    let at = 0;
    for (; at < 600 * SECOND; at += every * SECOND) rate.look(at, at / 10);
    expect(rate.perSecond(at, at / 10)).toBeCloseTo(100);
  }
});

test('what was added longer ago than about a minute counts no more', () => {
  const rate = new RecentRate();
  const total = (at: number) => (at < 30 * SECOND ? at : 30 * SECOND);
  for (let at = 0; at <= 300 * SECOND; at += 2 * SECOND) rate.look(at, total(at));
  expect(rate.perSecond(300 * SECOND, total(300 * SECOND))).toBe(0);
});

test('a burst is spread over the time that was looked at', () => {
  const rate = new RecentRate();
  rate.look(0, 0);
  rate.look(10 * SECOND, 0);
  expect(rate.perSecond(20 * SECOND, 2000)).toBeCloseTo(100);
});

test('before there was a look, and after a total went back, there is no rate', () => {
  const rate = new RecentRate();
  expect(rate.perSecond(5, 100)).toBe(0);
  rate.look(0, 100);
  expect(rate.perSecond(0, 100)).toBe(0);
  expect(rate.perSecond(10 * SECOND, 50)).toBe(0);
  rate.look(10 * SECOND, 50);
  expect(rate.perSecond(20 * SECOND, 150)).toBeCloseTo(10);
});
