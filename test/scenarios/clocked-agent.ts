// An agent whose wall clock jumps: a program that composes one as `vl3 agent run` does, but reads in a file by how many
// milliseconds its wall clock is wrong, and after that, if there is more, which boot this is. CLOCK_BOOTTIME and TLS have
// the machine's own time.
//
// Arguments: the file, and the agent's options as JSON.

import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { pino } from 'pino';
import { z } from 'zod';
import { startAgent } from '../../src/agent/agent.ts';
import { systemClock } from '../../src/agent/clock.ts';

const optionsSchema = z.object({
  stateDirectory: z.string(),
  runDirectory: z.string(),
  netnsPrefix: z.string(),
  networks: z.array(z.string()),
  name: z.exactOptional(z.string()),
  token: z.exactOptional(z.string()),
  cluster: z.exactOptional(z.object({ tokenFile: z.string(), domainFile: z.string() })),
});

const [file = '', json = ''] = process.argv.slice(2);
const [, boot] = readFileSync(file, 'utf8').split(' ');
const clock = systemClock(() => Date.now() + Number(readFileSync(file, 'utf8').split(' ')[0]));
const bootId = boot ?? clock.moment().bootId;
const stop = new AbortController();
process.once('SIGTERM', () => stop.abort());
const running = await startAgent(
  {
    ...optionsSchema.parse(JSON.parse(json)),
    advertise: [],
    defaultPort: 51820,
    workerPairs: 1,
    sparseFirst: true,
  },
  {
    logger: pino({ name: 'agent' }),
    signal: stop.signal,
    clock: { ...clock, moment: () => ({ ...clock.moment(), bootId }) },
  },
);
if (!stop.signal.aborted) await Promise.race([once(stop.signal, 'abort'), running.failed]);
await running[Symbol.asyncDispose]();
