// The thread of watchdog.ts.

import { writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { workerData } from 'node:worker_threads';
import type { WatchdogData } from './watchdog.ts';

const LOOK_MS = 1000;
const HANGS_AFTER_LOOKS = 60;

const { memory, path }: WatchdogData = workerData;
const words = new Int32Array(memory, 0, 2);
let seen = -1;
for (let still = 0; still < HANGS_AFTER_LOOKS; still++) {
  await sleep(LOOK_MS);
  const count = Atomics.load(words, 0);
  if (count !== seen) still = 0;
  seen = count;
}
const input = Buffer.from(new Uint8Array(memory, 8, Atomics.load(words, 1)).slice());
writeFileSync(path, `# hangs\n${input.toString('hex')}\n`);
process.stderr.write(`an execution hangs; its input is in ${path}\n`);
process.kill(process.pid, 'SIGKILL');
