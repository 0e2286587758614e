// The program's version, from package.json: the one place that knows it.

import { readFileSync } from 'node:fs';
import { z } from 'zod';

const read = (path: string): string | undefined => {
  try {
    return z.object({ version: z.string() }).parse(JSON.parse(readFileSync(new URL(path, import.meta.url), 'utf8'))).version;
  } catch {
    return undefined;
  }
};

/** From src/ in development, from dist/src/ when shipped. */
export const VERSION = read('../package.json') ?? read('../../package.json') ?? 'unknown';
