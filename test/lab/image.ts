// The container image as a directory: what deploy/container/collect.sh takes from this machine, what the build makes, and the
// packages that ship. As the Dockerfile puts it together, without its base images.

import { execFileSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, readFileSync } from 'node:fs';
import { delimiter, dirname, join, resolve } from 'node:path';

const ROOT = resolve(import.meta.dirname, '../..');

interface Lockfile {
  packages: Record<string, { dev?: boolean; devOptional?: boolean }>;
}

/** Fills a directory that is not there yet. Blocks. */
export function makeImage(directory: string): void {
  const path = [dirname(process.execPath), join(ROOT, 'node_modules/.bin'), process.env['PATH']].join(
    delimiter,
  );
  const env = { ...process.env, PATH: path };
  const app = join(directory, 'opt/vl3');
  mkdirSync(app, { recursive: true });
  execFileSync('sh', [join(ROOT, 'deploy/container/collect.sh'), directory], { env });
  execFileSync('sh', [join(ROOT, 'deploy/build.sh'), app], { env });
  // As `npm ci --omit=dev` does; of the packages for other machines none is here.
  const { packages }: Lockfile = JSON.parse(readFileSync(join(ROOT, 'package-lock.json'), 'utf8'));
  for (const [place, { dev, devOptional }] of Object.entries(packages)) {
    if (place === '' || dev || devOptional || !existsSync(join(ROOT, place))) continue;
    cpSync(join(ROOT, place), join(app, place), {
      recursive: true,
      // Packages inside are told for themselves.
      filter: (source) => !source.slice(ROOT.length + place.length + 1).includes('/node_modules'),
    });
  }
}
