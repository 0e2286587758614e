// vl3 as its users run it: built, as it ships, and started by its own launcher.

import { symlinkSync } from 'node:fs';
import { join, resolve } from 'node:path';
import type { Lab } from '../../lab/lab.ts';
import { type Program, vl3 } from '../../lab/program.ts';
import { Refusal } from '../refusal.ts';

export interface Vl3Program {
  readonly command: Program;
  /** What it is, in a few words. */
  readonly about: string;
}

const ROOT = resolve(import.meta.dirname, '../../..');

/** Builds it into the lab's own directory; it goes with the lab. */
export const buildVl3 = async (lab: Lab): Promise<Vl3Program> => {
  const directory = join(lab.scratch, 'vl3');
  const build = ['sh', join(ROOT, 'deploy/build.sh'), directory];
  const { code, stdout, stderr } = await lab.tryRun(build, { timeoutMs: 300_000 });
  if (code !== 0)
    throw new Refusal(
      `vl3 could not be built (--sources measures it as it is in this clone):\n${stdout}${stderr}`.trimEnd(),
    );
  symlinkSync(join(ROOT, 'node_modules'), join(directory, 'node_modules'));
  // For profiles: --perf-basic-prof and the like, for vl3 alone.
  const options = (process.env['TUNNEL_NODE_OPTIONS'] ?? '').split(' ').filter((one) => one !== '');
  if (options.length > 0) {
    const main = join(directory, 'cmd/vl3/main.js');
    return {
      command: (...args) => [process.execPath, ...options, main, ...args],
      about: `built, node ${process.version} ${options.join(' ')}`,
    };
  }
  const launcher = join(directory, 'cmd/vl3/vl3');
  return { command: (...args) => [launcher, ...args], about: `built, node ${process.version}` };
};

/** As it is in this clone, types and all. */
export const sourcesOfVl3: Vl3Program = { command: vl3, about: `from sources, node ${process.version}` };
