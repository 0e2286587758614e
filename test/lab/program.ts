// vl3 itself, as the lab starts it.

import { resolve } from 'node:path';

const MAIN = resolve(import.meta.dirname, '../../cmd/vl3/main.ts');

/** Makes a command line out of arguments for vl3. */
export type Program = (...args: string[]) => string[];

/** A vl3 command, run from the sources. */
export function vl3(...args: string[]): string[] {
  return [process.execPath, '--disable-warning=ExperimentalWarning', MAIN, ...args];
}
