// Who is running, by /proc: a process is known by its id and its start time together, since ids are reused.

import { readdirSync, readFileSync } from 'node:fs';

/** When `pid` started, in clock ticks since boot; undefined when there is no such process. */
export function startTime(pid: number): string | undefined {
  return stat(pid)?.startTime;
}

/** Whether the process that had this id and start time still runs; one that only waits to be reaped does not. */
export function isRunning(pid: number, started: string): boolean {
  const now = stat(pid);
  return now !== undefined && now.startTime === started && now.state !== 'Z' && now.state !== 'X';
}

/** The running processes whose environment, as it was when they started, holds `assignment`. */
export function processesMarked(assignment: string): number[] {
  const found = [];
  for (const name of readdirSync('/proc')) {
    const pid = Number(name);
    if (!Number.isInteger(pid)) continue;
    try {
      const environment = readFileSync(`/proc/${pid}/environ`, 'latin1').split('\0');
      const state = stat(pid)?.state;
      if (environment.includes(assignment) && state !== 'Z' && state !== 'X') found.push(pid);
    } catch {
      // It ended while we looked.
    }
  }
  return found;
}

/** Blocks this thread; for removal while the process exits, when nothing asynchronous runs any more. */
export function sleepSync(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
}

function stat(pid: number): { state: string; startTime: string } | undefined {
  try {
    // proc(5): the command's name, field 2, may hold spaces and parentheses; count from behind it.
    const text = readFileSync(`/proc/${pid}/stat`, 'latin1');
    const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
    return { state: fields[0] ?? '', startTime: fields[19] ?? '' };
  } catch {
    return undefined;
  }
}
