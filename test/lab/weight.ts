// What an agent's process holds: memory after its garbage was collected, and descriptors. Its program is started with
// memory-probe.ts before it.

import { existsSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

const PROBE = fileURLToPath(new URL('./memory-probe.ts', import.meta.url));

export interface Weight {
  readonly rssMb: number;
  readonly heapMb: number;
  /** ArrayBuffers and what else lies outside the heap. */
  readonly externalMb: number;
  readonly descriptors: number;
  readonly threads: number;
}

/** The environment that the program needs; `file` is where it answers. */
export const weighable = (file: string): Record<string, string> => ({
  NODE_OPTIONS: `--import=${PROBE}`,
  VL3_MEMORY: file,
});

export const weigh = async (pid: number, file: string): Promise<Weight> => {
  rmSync(file, { force: true });
  process.kill(pid, 'SIGUSR2');
  for (let waited = 0; !existsSync(file); waited += 10) {
    if (waited > 20_000) throw new Error(`process ${pid} does not say what it weighs`);
    await sleep(10);
  }
  const { heapUsed, external, arrayBuffers } = JSON.parse(readFileSync(file, 'utf8'));
  const megabytes = (bytes: number): number => Math.round(bytes / 104_857.6) / 10;
  const rss = /^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
  return {
    rssMb: megabytes(Number(rss) * 1024),
    heapMb: megabytes(heapUsed),
    externalMb: megabytes(external + arrayBuffers),
    descriptors: readdirSync(`/proc/${pid}/fd`).length,
    threads: readdirSync(`/proc/${pid}/task`).length,
  };
};
