// The program's version, from package.json: the one place that knows it.

import { readFileSync } from 'node:fs';
import { z } from 'zod';

const schema = z.object({ version: z.string() });

const read = (path: string): string | undefined => {
  try {
    const text = readFileSync(new URL(path, import.meta.url), 'utf8');
    return schema.parse(JSON.parse(text)).version;
  } catch {
    return undefined;
  }
};

/** The package's, whether this runs in the tree or in dist/; failing that, of the package that dist/ lies in. */
export const VERSION = read('../package.json') ?? read('../../package.json') ?? 'unknown';
