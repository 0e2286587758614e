// Whether a directory is there to write to, or can be made, found out without making it.

import { accessSync, constants, existsSync, statfsSync, statSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { Vl3Error } from '../native-free/error.ts';

/** Less than this holds no state. */
const LEAST_BYTES = 1 << 20;

const isFull = (path: string): boolean => {
  const { blocks, bavail, bsize } = statfsSync(path);
  // A file system without bounds says 0.
  return blocks > 0 && bavail * bsize < LEAST_BYTES;
};

/** Throws Vl3Error('failed-precondition') that names the setting, e.g. "--state-dir". */
export const checkWritableDirectory = (directory: string, option: string): void => {
  let present = resolve(directory);
  while (!existsSync(present) && dirname(present) !== present) present = dirname(present);
  const fail = (reason: string, cause?: unknown): never => {
    throw new Vl3Error(
      'failed-precondition',
      `cannot write to ${present} (${reason}): mend that, or choose another ${option} than ${directory}`,
      { cause },
    );
  };
  try {
    if (!statSync(present).isDirectory()) fail('it is no directory');
    accessSync(present, constants.W_OK | constants.X_OK);
    // What is there already may work on without room; what cannot be filled should not be made.
    if (present !== resolve(directory) && isFull(present)) fail('its disk is full');
  } catch (cause) {
    if (cause instanceof Vl3Error) throw cause;
    fail(cause instanceof Error && 'code' in cause ? String(cause.code) : String(cause), cause);
  }
};
