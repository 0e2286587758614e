import fc from 'fast-check';
import { expect, test } from 'vitest';
import { RateLimiter } from '../../../native-free/port/rate-limiter.ts';

const allowed = (
  limiter: RateLimiter,
  network: string,
  address: string,
  times: number,
  now: number,
): number => Array.from({ length: times }, () => limiter.allow(network, address, now)).filter(Boolean).length;

test('five at once, then one each 50 ms', () => {
  const limiter = new RateLimiter();
  expect(allowed(limiter, 'red', '192.0.2.1', 100, 1000)).toBe(5);
  expect(allowed(limiter, 'red', '192.0.2.1', 100, 1049)).toBe(0);
  expect(allowed(limiter, 'red', '192.0.2.1', 100, 1050)).toBe(1);
  expect(allowed(limiter, 'red', '192.0.2.1', 100, 1150)).toBe(2);
  expect(allowed(limiter, 'red', '192.0.2.1', 100, 10_000)).toBe(5);
});

test('no address and no network uses up what belongs to another', () => {
  const limiter = new RateLimiter();
  allowed(limiter, 'red', '192.0.2.1', 100, 0);
  expect(allowed(limiter, 'red', '192.0.2.2', 100, 0)).toBe(5);
  expect(allowed(limiter, 'green', '192.0.2.1', 100, 0)).toBe(5);
});

test('the addresses of one IPv6 /64 are one source, other /64s and other zones are not', () => {
  const limiter = new RateLimiter();
  expect(allowed(limiter, 'red', '2001:db8:0:1::1', 5, 0)).toBe(5);
  expect(limiter.allow('red', '2001:db8:0:1:ffff:ffff:ffff:ffff', 0)).toBe(false);
  expect(limiter.allow('red', '2001:db8:0:2::1', 0)).toBe(true);
  allowed(limiter, 'red', 'fe80::1%eth0', 5, 0);
  expect(limiter.allow('red', 'fe80::2%eth0', 0)).toBe(false);
  expect(limiter.allow('red', 'fe80::1%eth1', 0)).toBe(true);
});

test('however many addresses ask, the table is bounded and the least recently asked is forgotten', () => {
  const limiter = new RateLimiter();
  const address = (i: number): string => `10.${i >> 16}.${(i >> 8) & 255}.${i & 255}`;
  allowed(limiter, 'red', address(0), 5, 0);
  for (let i = 1; i < 20_000; i++) {
    expect(limiter.allow('red', address(i), 0)).toBe(true);
    if (i < 4000) expect(limiter.allow('red', address(0), 0)).toBe(false);
    expect(limiter.size).toBeLessThanOrEqual(4096);
  }
  expect(limiter.allow('red', address(0), 0)).toBe(true);
});

test('what nobody asks any more is forgotten, in an ask or without', () => {
  const limiter = new RateLimiter();
  for (let i = 0; i < 1000; i++) limiter.allow('red', `10.0.${i >> 8}.${i & 255}`, i);
  expect(limiter.size).toBe(250);
  limiter.forgetFull(999 + 249);
  expect(limiter.size).toBe(1);
  limiter.forgetFull(999 + 250);
  expect(limiter.size).toBe(0);
});

test('over any time no address gets more than its burst and its rate, nor less when it keeps to them', () => {
  const gaps = fc.array(fc.nat(400), { minLength: 1, maxLength: 200 });
  fc.assert(
    fc.property(gaps, (times) => {
      const limiter = new RateLimiter();
      let now = 0;
      let passed = 0;
      // The plain twin: tokens of 50 ms, at most five.
      let tokens = 250;
      for (const gap of times) {
        now += gap;
        tokens = Math.min(250, tokens + gap);
        const expected = tokens >= 50;
        if (expected) tokens -= 50;
        expect(limiter.allow('red', '192.0.2.1', now)).toBe(expected);
        if (expected) passed++;
      }
      expect(passed).toBeLessThanOrEqual(5 + now / 50);
    }),
  );
});
