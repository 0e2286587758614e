// Set-up of the tests that start many vl3 commands: most of what a start costs is loading some 350 modules one by one, in
// each worker anew, so they are bundled first, from the sources as they are.

import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'rolldown';
import { COMMANDS } from './program.ts';

const ROOT = resolve(import.meta.dirname, '../..');

let directory: string | undefined;

export const setup = async (): Promise<void> => {
  // In here, packages that cannot be bundled are found.
  directory = mkdtempSync(join(ROOT, 'node_modules/.vl3-commands-'));
  // For commands of who is not root, too.
  chmodSync(directory, 0o755);
  await build({
    input: {
      main: join(ROOT, 'cmd/vl3/main.ts'),
      'command-server': fileURLToPath(new URL('./command-server.ts', import.meta.url)),
      standalone: join(ROOT, 'test/interop/standalone.ts'),
      // Their creator looks for them beside itself.
      worker: join(ROOT, 'src/datapath/worker.ts'),
    },
    platform: 'node',
    external: ['koffi', '@kubernetes/client-node'],
    output: { dir: directory, format: 'esm' },
    logLevel: 'warn',
  });
  process.env[COMMANDS] = join(directory, 'main.js');
};

export const teardown = (): void => {
  if (directory !== undefined) rmSync(directory, { recursive: true, force: true });
};
