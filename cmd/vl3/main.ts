// The vl3 program's edge to the process: its arguments, streams, signals and exit code.

import { enableCompileCache } from 'node:module';
import type { Context } from './context.ts';

// Halves the start. Not in /tmp, where anybody could put code for root to run.
if (process.getuid?.() === 0) enableCompileCache('/var/cache/vl3');

const abort = new AbortController();
const interrupted = (): void => abort.abort();
process.on('SIGINT', interrupted);
process.on('SIGTERM', interrupted);
// A reader that goes away (`vl3 … | head`) ends the output, not in a stack trace.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') return;
  process.stderr.write(`vl3: cannot write the output: ${error.message}\n`);
  process.exitCode = 1;
});

const context: Context = {
  env: process.env,
  out: (line) => process.stdout.write(`${line}\n`),
  err: (line) => process.stderr.write(`${line}\n`),
  signal: abort.signal,
  exit: (code) => {
    process.exitCode = code;
  },
};

const { run } = await import('./program.ts');
await run(process.argv.slice(2), context);
process.off('SIGINT', interrupted);
process.off('SIGTERM', interrupted);
