// An SVID in a volume that Kubernetes makes of a Secret, for a pod that is not root: links in a directory that anybody may
// write to, but nobody take from, and a key that the pod's group may read (fsGroup).

import { execFile } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  lchownSync,
  mkdirSync,
  mkdtempSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { expect, onTestFinished, test } from 'vitest';
import { SpiffeAuthority, svidFiles } from '../../lab/spiffe-authority.ts';

const POD = 65532;

/** As the kubelet does it: each version in a directory of its own, which one link leads to. */
const project = (volume: string, version: string, files: Record<string, string>, mode: number): void => {
  const directory = join(volume, `..${version}`);
  mkdirSync(directory, { mode: 0o755 });
  for (const [name, text] of Object.entries(files)) {
    const path = join(directory, name);
    writeFileSync(path, text);
    chownSync(path, 0, POD);
    chmodSync(path, mode);
  }
  const next = join(volume, '..data_tmp');
  symlinkSync(`..${version}`, next);
  renameSync(next, join(volume, '..data'));
  for (const name of Object.keys(files)) {
    rmSync(join(volume, name), { force: true });
    symlinkSync(join('..data', name), join(volume, name));
  }
};

const volumeOf = async (mode: number): Promise<string> => {
  const root = mkdtempSync(join(tmpdir(), 'vl3t-secret-'));
  onTestFinished(() => rmSync(root, { recursive: true, force: true }));
  chmodSync(root, 0o755);
  const volume = join(root, 'volume');
  mkdirSync(volume);
  chmodSync(volume, 0o3777);
  const authority = await SpiffeAuthority.create();
  project(volume, '2026_1', svidFiles(await authority.issue('/registry')), mode);
  return volume;
};

const FOLLOW = `
const { IdentitySource } = await import('./src/identity/identity-source.ts');
const { SvidFiles } = await import('./src/identity/svid-files.ts');
const { pino } = await import('pino');
const feed = new SvidFiles({ directory: process.argv[1], lookMs: 20 });
const deps = { logger: pino({ level: 'silent' }), now: Date.now, monotonic: () => performance.now() };
await using source = new IdentitySource(feed, { kind: 'registry' }, deps);
while (source.svid === undefined && source.problem === undefined) await new Promise((done) => setTimeout(done, 10));
console.log(source.problem ?? source.svid.id.kind);
`;

/** What a process of that user and group takes it for. */
const follow = async (volume: string, user: number, group: number): Promise<string> => {
  const as = ['--reuid', `${user}`, '--regid', `${group}`, '--clear-groups', '--'];
  const node = [process.execPath, '--input-type=module', '-e', FOLLOW, volume];
  const { stdout } = await promisify(execFile)('setpriv', [...as, ...node], {
    cwd: resolve(import.meta.dirname, '../../..'),
  });
  return stdout.trim();
};

test('is taken by the pod, whose group may read its key', async () => {
  expect(await follow(await volumeOf(0o440), POD, POD)).toBe('registry');
});

test('is taken by nobody where others may read its key, or write to it, or where the group is not the own', async () => {
  expect(await follow(await volumeOf(0o444), POD, POD)).toMatch(/is open to other users \(mode 0444\)/);
  expect(await follow(await volumeOf(0o460), POD, POD)).toMatch(
    /other users may write to|is open to other users/,
  );
  expect(await follow(await volumeOf(0o440), 0, 0)).toMatch(/is open to other users \(mode 0440\)/);
});

test('is not taken by a link that somebody else put into the directory', async () => {
  const volume = await volumeOf(0o440);
  const link = join(volume, 'svid_key.pem');
  rmSync(link);
  symlinkSync(join('..data', 'svid_key.pem'), link);
  lchownSync(link, 12345, 12345);
  expect(await follow(volume, POD, POD)).toMatch(/other users may write to the directory/);
});
