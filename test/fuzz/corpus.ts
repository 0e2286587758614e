// Saved cases: test/fuzz/corpus/<target>/<what>.hex, each an input in hexadecimal that once showed a fault.
// Lines that start with "#" say which.

import { createHash } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const DIRECTORY = join(import.meta.dirname, 'corpus');

export interface SavedCase {
  readonly name: string;
  readonly input: Uint8Array;
}

export const savedCases = (target: string): SavedCase[] => {
  let names: string[];
  try {
    names = readdirSync(join(DIRECTORY, target));
  } catch {
    return [];
  }
  return names
    .filter((name) => name.endsWith('.hex'))
    .sort()
    .map((name) => {
      const lines = readFileSync(join(DIRECTORY, target, name), 'utf8').split('\n');
      const hex = lines.filter((line) => !line.startsWith('#')).join('');
      return { name, input: new Uint8Array(Buffer.from(hex.replace(/\s/g, ''), 'hex')) };
    });
};

/** Writes a case down; answers its path. */
export const saveCase = (target: string, input: Uint8Array, why: string): string => {
  const hash = createHash('sha256').update(input).digest('hex').slice(0, 10);
  const path = join(DIRECTORY, target, `${hash}.hex`);
  mkdirSync(join(DIRECTORY, target), { recursive: true });
  const comment = why
    .split('\n')
    // Where it was thrown says nothing on another machine.
    .filter((line) => !line.trimStart().startsWith('at '))
    .slice(0, 3)
    .map((line) => `# ${line.slice(0, 200)}\n`)
    .join('');
  const lines =
    Buffer.from(input)
      .toString('hex')
      .match(/.{1,96}/g) ?? [];
  writeFileSync(path, `${comment}${lines.join('\n')}\n`);
  return path;
};
