// What a thread asks of the scheduler, against what the kernel says of it.

import { readFileSync } from 'node:fs';
import { release } from 'node:os';
import { expect, test } from 'vitest';
import { setSlice } from '../../../src/ffi/scheduling.ts';

const slice = (): number =>
  Number(/^se\.slice\s*:\s*(\d+)/m.exec(readFileSync('/proc/thread-self/sched', 'latin1'))?.[1]);
const nice = (): string | undefined =>
  /^prio\s*:\s*(\d+)/m.exec(readFileSync('/proc/thread-self/sched', 'latin1'))?.[1];

test('a thread runs in slices of what it asked for, and is as nice as before', () => {
  const before = { slice: slice(), nice: nice() };
  expect(before.nice).toBeDefined();
  expect(setSlice(300_000)).toBe(true);
  const [major = 0, minor = 0] = release().split('.').map(Number);
  if (major > 6 || (major === 6 && minor >= 12)) expect(slice()).toBe(300_000);
  else expect(slice()).toEqual(before.slice);
  expect(nice()).toBe(before.nice);
});
