// The cgroup that a container runtime was given for its containers, in whichever hierarchies this machine has.

import { globSync, readFileSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';
import { sleepSync } from './processes.ts';

/** Kills what is left in it, does `between`, and removes it with all below it. Blocks. */
export function removeCgroup(name: string, between = (): void => {}): void {
  const paths = globSync(`/sys/fs/cgroup/{*/,}${name}/**/`).toSorted(
    (one, other) => other.length - one.length,
  );
  for (const path of paths)
    for (const pid of readFileSync(join(path, 'cgroup.procs'), 'utf8').split('\n'))
      if (pid !== '') kill(Number(pid));
  between();
  for (const path of paths) remove(path);
}

/** It may have ended meanwhile. */
function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    return;
  }
}

/** What has been killed leaves its cgroup a moment later. */
function remove(cgroup: string): void {
  for (let time = 0; ; time++) {
    try {
      rmdirSync(cgroup);
      return;
    } catch (error) {
      if (time === 100) throw error;
      sleepSync(20);
    }
  }
}
