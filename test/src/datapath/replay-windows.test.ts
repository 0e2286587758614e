// The windows in one array against their readable twin, and that slots do not touch each other.

import fc from 'fast-check';
import { expect, test } from 'vitest';
import { REPLAY_WINDOW, ReplayWindow } from '../../../native-free/noise/replay.ts';
import { ReplayWindows } from '../../../src/datapath/replay-windows.ts';

const SLOT = 1;

test('decides as the twin does, whatever the order of counters', () => {
  const near = fc.integer({ min: -20_000, max: 20_000 });
  const start = fc.oneof(fc.constant(0), fc.constant(2 ** 32), fc.integer({ min: 0, max: 2 ** 52 }));
  fc.assert(
    fc.property(start, fc.array(near, { maxLength: 300 }), (base, steps) => {
      const windows = new ReplayWindows(3);
      const twin = new ReplayWindow();
      for (const step of steps) {
        const counter = Math.max(0, base + step);
        const expected = twin.accept(Math.floor(counter / 2 ** 32), counter % 2 ** 32);
        expect(windows.accept(SLOT, counter)).toBe(expected);
      }
    }),
  );
});

test('a counter just inside the window is taken once, one just outside never', () => {
  const windows = new ReplayWindows(2);
  const highest = 1_000_000;
  expect(windows.accept(SLOT, highest)).toBe(true);
  expect(windows.accept(SLOT, highest - REPLAY_WINDOW)).toBe(true);
  expect(windows.accept(SLOT, highest - REPLAY_WINDOW)).toBe(false);
  expect(windows.accept(SLOT, highest - REPLAY_WINDOW - 1)).toBe(false);
});

test('slots are apart, and a reset slot starts anew', () => {
  const windows = new ReplayWindows(3);
  for (let counter = 0; counter < 20_000; counter += 7) windows.accept(SLOT, counter);
  expect(windows.accept(0, 0)).toBe(true);
  expect(windows.accept(2, 19_999)).toBe(true);
  windows.reset(SLOT);
  expect(windows.accept(SLOT, 0)).toBe(true);
  expect(windows.accept(0, 0)).toBe(false);
});
