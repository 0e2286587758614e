// vl3 itself, as the lab starts it.

import { resolve } from 'node:path';

const MAIN = resolve(import.meta.dirname, '../../cmd/vl3/main.ts');

/** A vl3 command, run from the sources. */
export function vl3(...args: string[]): string[] {
  return [process.execPath, '--disable-warning=ExperimentalWarning', MAIN, ...args];
}
