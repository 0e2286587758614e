// vl3 itself, as the lab starts it.

import { dirname, join, resolve } from 'node:path';

const MAIN = resolve(import.meta.dirname, '../../cmd/vl3/main.ts');

/** The environment's name for the bundle that vl3 is run from (see bundle-commands); unset or empty: the sources. */
export const COMMANDS = 'VL3_LAB_COMMANDS';

/** Makes a command line out of arguments for vl3. */
export type Program = (...args: string[]) => string[];

/** A vl3 command, run from the sources or what was bundled of them; "cni" knows where the plugin lies beside it. */
export function vl3(...args: string[]): string[] {
  return started((args[0] !== 'cni' && process.env[COMMANDS]) || MAIN, args);
}

/** From the sources in any case: for what is loaded before it and changes one of its modules. */
export const fromSources: Program = (...args) => started(MAIN, args);

/** What is bundled beside vl3, and no part of it. Undefined: nothing is bundled. */
export function bundled(name: 'command-server' | 'standalone'): string[] | undefined {
  const main = process.env[COMMANDS];
  return main ? started(join(dirname(main), `${name}.js`), []) : undefined;
}

const started = (main: string, args: readonly string[]): string[] => [
  process.execPath,
  '--disable-warning=ExperimentalWarning',
  main,
  ...args,
];
