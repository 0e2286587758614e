// The clocks of the machine this agent is on.

import { readFileSync } from 'node:fs';
import type { Moment } from '../../native-free/moment.ts';
import { monotonicNow } from '../ffi/clock.ts';

export interface Clock {
  /** Milliseconds on the one monotonic clock (CLOCK_BOOTTIME). */
  monotonic(): number;
  /** Unix milliseconds. */
  wall(): number;
  /** Both, and which boot it is. */
  moment(): Moment;
}

/** `wall`: for tests, in which the wall clock jumps. */
export const systemClock = (wall: () => number = Date.now): Clock => {
  const bootId = readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim();
  return { monotonic: monotonicNow, wall, moment: () => ({ bootId, boot: monotonicNow(), wall: wall() }) };
};
