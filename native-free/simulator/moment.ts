// A simulated node's two clocks as its record book takes them: a machine here boots once.

import type { Moment } from '../moment.ts';

export const momentOf = ({ now, wallclock }: { now: number; wallclock: number }): Moment => ({
  bootId: 'only',
  boot: now,
  wall: wallclock,
});
