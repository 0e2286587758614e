// The machine's own time so far: how much of what a measurement took was taken by others (proc(5), /proc/stat).

import { readFileSync } from 'node:fs';

export interface MachineTime {
  /** Ticks in all, of all cores. */
  readonly total: number;
  /** Ticks that the hypervisor gave to others. */
  readonly steal: number;
}

export function machineTime(): MachineTime {
  const line = readFileSync('/proc/stat', 'latin1').split('\n')[0] ?? '';
  const ticks = line.trim().split(/ +/).slice(1, 9).map(Number);
  return { total: ticks.reduce((sum, n) => sum + n, 0), steal: ticks[7] ?? 0 };
}

/** The share (0 to 1) of the time between the two that was stolen. */
export const stolenShare = (before: MachineTime, after: MachineTime): number =>
  (after.steal - before.steal) / Math.max(1, after.total - before.total);
