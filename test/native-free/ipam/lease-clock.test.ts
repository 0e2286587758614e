// A node's terms under clocks that jump, machines that reboot and agents that restart, against the one true time.

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  carriedOver,
  DEFAULT_TERM_MS,
  leftMs,
  nextChange,
  phaseOf,
  renewalDelay,
  retryDelay,
  type Term,
  unknownTerm,
} from '../../../native-free/ipam/lease-clock.ts';
import type { Moment } from '../../../native-free/moment.ts';

const WALL = 1_900_000_000_000;
const DAY = 24 * 3_600_000;
const at = (boot: number, wall = WALL + boot, bootId = 'first'): Moment => ({ bootId, boot, wall });
const term: Term = { termMs: 100_000, since: at(1000) };

test('a term is good until 2 % are left, then closing, at 1 % ending, and then over', () => {
  expect(phaseOf(term, at(1000))).toBe('good');
  expect(phaseOf(term, at(98_999))).toBe('good');
  expect(phaseOf(term, at(99_000))).toBe('closing');
  expect(phaseOf(term, at(100_000))).toBe('ending');
  expect(phaseOf(term, at(101_000))).toBe('ended');
  expect(leftMs(term, at(102_000))).toBe(-1000);
});

test('within one boot no jump of the wall clock changes anything', () => {
  const boots = fc.integer({ min: 1000, max: 120_000 });
  fc.assert(
    fc.property(boots, fc.integer({ min: -400 * DAY, max: 400 * DAY }), (boot, jump) => {
      const jumped = at(boot, WALL + boot + jump);
      expect(phaseOf(term, jumped)).toBe(phaseOf(term, at(boot)));
      expect(leftMs(carriedOver(term, jumped), jumped)).toBe(leftMs(term, at(boot)));
    }),
  );
});

test('after a reboot the wall clock counts what has passed, and from then on it may jump again', () => {
  const after = at(5000, WALL + 41_000, 'second');
  expect(leftMs(term, after)).toBe(60_000);
  const carried = carriedOver(term, after);
  expect(leftMs(carried, after)).toBe(60_000);
  expect(leftMs(carried, at(6000, WALL - 9 * DAY, 'second'))).toBe(59_000);
});

test('after a reboot into the past nothing is allocated, until the clock is right again or the lease renewed', () => {
  const past = at(5000, WALL - 7 * DAY, 'second');
  expect(phaseOf(term, past)).toBe('closing');
  const kept = carriedOver(term, past);
  expect(kept).toEqual(term);
  expect(phaseOf(kept, at(20_000, WALL + 31_000, 'second'))).toBe('good');
  expect(phaseOf({ termMs: 100_000, since: past }, past)).toBe('good');
});

test('however wrong the clock is, a boot that has lasted longer than the term has ended it', () => {
  expect(phaseOf(term, at(99_500, WALL - 7 * DAY, 'second'))).toBe('ending');
  expect(phaseOf(term, at(100_000, WALL - 7 * DAY, 'second'))).toBe('ended');
});

test('a term of an earlier version holds in full from when it is first seen', () => {
  expect(leftMs(unknownTerm(at(7000)), at(7000))).toBe(DEFAULT_TERM_MS);
});

test('the phase changes exactly when it was said to, and not before', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1000, max: 130_000 }), (boot) => {
      const change = nextChange(term, at(boot));
      if (change === undefined) {
        expect(phaseOf(term, at(boot))).toBe('ended');
        return;
      }
      expect(change).toBeGreaterThan(boot);
      expect(phaseOf(term, at(change - 1e-3))).toBe(phaseOf(term, at(boot)));
      expect(phaseOf(term, at(change))).not.toBe(phaseOf(term, at(boot)));
    }),
  );
});

describe('whatever restarts, reboots and right wall clocks a history holds', () => {
  // Truth, of which the machine sees only its clocks. Wall clocks may jump while the machine is up, and are right at a boot.
  const step = fc.record({
    kind: fc.constantFrom('wait', 'jump', 'restart', 'reboot'),
    ms: fc.integer({ min: 0, max: 30_000 }),
    jump: fc.integer({ min: -30 * DAY, max: 30 * DAY }),
  });

  test('a term ends when it ends, to the millisecond', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 30 }), (steps) => {
        let truth = 1000;
        let bootedAt = 0;
        let boots = 0;
        let skew = 0;
        const now = (): Moment => ({
          bootId: String(boots),
          boot: truth - bootedAt,
          wall: WALL + truth + skew,
        });
        const since = now();
        let held: Term = { termMs: 100_000, since };
        for (const { kind, ms, jump } of steps) {
          truth += ms;
          if (kind === 'jump') skew = jump;
          if (kind === 'reboot') {
            boots += 1;
            bootedAt = truth;
            skew = 0;
          }
          if (kind === 'restart' || kind === 'reboot') held = carriedOver(held, now());
          expect(leftMs(held, now())).toBe(100_000 - (truth - 1000));
        }
      }),
    );
  });

  test('with a wall clock that is wrong at boots but never behind by more than is said, it never ends late', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 30 }), (steps) => {
        let truth = 1000;
        let bootedAt = 0;
        let boots = 0;
        let skew = 0;
        const now = (): Moment => ({
          bootId: String(boots),
          boot: truth - bootedAt,
          wall: WALL + truth + skew,
        });
        let held: Term = { termMs: 100_000, since: now() };
        for (const { kind, ms, jump } of steps) {
          truth += ms;
          if (kind === 'reboot') {
            boots += 1;
            bootedAt = truth;
            // Ahead: the term only ends early.
            skew = Math.abs(jump);
            held = carriedOver(held, now());
          }
          expect(leftMs(held, now())).toBeLessThanOrEqual(100_000 - (truth - 1000));
        }
      }),
    );
  });
});

test('renewals come at 8 to 12 % of the term, and again each minute at most when they fail', () => {
  expect(renewalDelay(1000, 0)).toBe(80);
  expect(renewalDelay(1000, 0.999)).toBeCloseTo(120, 0);
  expect(retryDelay(DEFAULT_TERM_MS)).toBe(60_000);
  expect(retryDelay(70_000)).toBe(350);
});
