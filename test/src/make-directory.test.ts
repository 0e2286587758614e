import { mkdtempSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { makeDirectory } from '../../src/make-directory.ts';

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'vl3t-make-'));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

test('directories that are missing are made with the mode, and one that is there stays', () => {
  const path = join(directory, 'a/b/c');
  makeDirectory(path, 0o700);
  makeDirectory(path, 0o700);
  for (const one of ['a', 'a/b', 'a/b/c']) expect(statSync(join(directory, one)).mode & 0o777).toBe(0o700);
});

test('below /proc, a file or a link to nowhere it fails at once', () => {
  writeFileSync(join(directory, 'file'), '');
  symlinkSync(join(directory, 'missing'), join(directory, 'link'));
  for (const path of ['/proc/vl3/state', '/proc/vl3', join(directory, 'file'), join(directory, 'file/x')])
    expect(() => makeDirectory(path, 0o700)).toThrow(/mkdir/);
  expect(() => makeDirectory(join(directory, 'link'), 0o700)).toThrow();
});
