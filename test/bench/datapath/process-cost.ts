// What processes have cost so far (proc(5)): CPU time and memory.

import { readFileSync } from 'node:fs';

const TICKS_PER_SECOND = 100;

/** User and system time of all of them together, fields 14 and 15 of /proc/PID/stat. */
export const cpuSeconds = (pids: readonly number[]): number => {
  let ticks = 0;
  for (const pid of pids) {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    ticks += Number(fields[11]) + Number(fields[12]);
  }
  return ticks / TICKS_PER_SECOND;
};

/** Resident megabytes of the largest of them. */
export const rssMb = (pids: readonly number[]): number =>
  Math.max(
    ...pids.map(
      (pid) =>
        Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1] ?? 0) / 1024,
    ),
  );
