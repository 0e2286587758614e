// Makes a directory and those above it that are missing, one after another. Not by mkdir's own "recursive": below a
// file system that makes no directories (/proc), Node's tries for ever.

import { existsSync, mkdirSync, statSync } from 'node:fs';
import { dirname, resolve } from 'node:path';

/** `mode`: of each that is made. Throws what the system says. */
export const makeDirectory = (path: string, mode: number): void => {
  const missing: string[] = [];
  for (let at = resolve(path); !existsSync(at); at = dirname(at)) missing.unshift(at);
  for (const one of missing) makeOne(one, mode);
  // It is there, but may be something else.
  if (missing.length === 0) makeOne(resolve(path), mode);
};

const makeOne = (path: string, mode: number): void => {
  try {
    mkdirSync(path, { mode });
  } catch (error) {
    if (statSync(path, { throwIfNoEntry: false })?.isDirectory() !== true) throw error;
  }
};
