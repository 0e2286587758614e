// An earlier version of vl3, run from its sources as they were committed, with the modules of the present one.

import { execFileSync } from 'node:child_process';
import { mkdirSync, symlinkSync } from 'node:fs';
import { join, resolve } from 'node:path';
import type { Lab } from './lab.ts';
import type { Program } from './program.ts';

const ROOT = resolve(import.meta.dirname, '../..');

/** Whether the repository here holds the commit: a shallow clone, or an archive, does not. */
export const hasCommit = (commit: string): boolean => {
  try {
    execFileSync('git', ['cat-file', '-e', `${commit}^{commit}`], { cwd: ROOT, stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
};

/** The vl3 command of that commit. Its files go with the run. */
export const oldVersion = (lab: Lab, commit: string): Program => {
  const directory = join(lab.scratch, `vl3-${commit}`);
  mkdirSync(directory);
  const archive = execFileSync('git', ['archive', commit], { cwd: ROOT, maxBuffer: 1 << 28 });
  execFileSync('tar', ['-x', '-C', directory], { input: archive });
  symlinkSync(join(ROOT, 'node_modules'), join(directory, 'node_modules'));
  execFileSync(join(ROOT, 'node_modules/.bin/buf'), ['generate'], { cwd: directory, stdio: 'pipe' });
  return (...args) => [
    process.execPath,
    '--disable-warning=ExperimentalWarning',
    join(directory, 'cmd/vl3/main.ts'),
    ...args,
  ];
};
