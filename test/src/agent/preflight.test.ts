import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, expect, test } from 'vitest';
import { checkKernel } from '../../../src/agent/preflight.ts';
import { checkWritableDirectory } from '../../../src/writable-directory.ts';

const scratch = mkdtempSync(join(tmpdir(), 'vl3-preflight-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

test.each(['5.4.0-42-generic', '5.10.1', '6.18.0', '10.0-rc1'])('a kernel %s will do', (version) => {
  expect(() => checkKernel(version)).not.toThrow();
});

test.each(['5.3.18', '4.19.0-27-amd64', '2.6.32', 'unknown', ''])('a kernel "%s" is refused', (version) => {
  expect(() => checkKernel(version)).toThrow(`this kernel is Linux ${version}: the agent needs 5.4 or newer`);
});

test('a directory may be there or be made, and looking makes none', () => {
  const there = join(scratch, 'there');
  mkdirSync(there);
  expect(() => checkWritableDirectory(there, '--state-dir')).not.toThrow();
  expect(() => checkWritableDirectory(join(there, 'a/b/c'), '--state-dir')).not.toThrow();
  expect(() => rmSync(join(there, 'a'))).toThrow('ENOENT');
});

test('a file in the way is named', () => {
  const file = join(scratch, 'file');
  writeFileSync(file, '');
  for (const path of [file, join(file, 'x')])
    expect(() => checkWritableDirectory(path, '--run-dir')).toThrow(
      `cannot write to ${file} (it is no directory): mend that, or choose another --run-dir than ${path}`,
    );
});

test('a directory on a full disk is not made, and one that is there goes on', async () => {
  const mounted = join(scratch, 'full');
  mkdirSync(mounted);
  await promisify(execFile)('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'vl3t', mounted]);
  try {
    expect(() => checkWritableDirectory(join(mounted, 'state'), '--state-dir')).toThrow(
      `cannot write to ${mounted} (its disk is full): mend that`,
    );
    expect(() => checkWritableDirectory(mounted, '--state-dir')).not.toThrow();
  } finally {
    await promisify(execFile)('umount', [mounted]);
  }
});
