import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { expect, test } from 'vitest';
import { checkPrivilege } from '../../../src/agent/privilege.ts';

test('root may, and who lacks a capability is told which', () => {
  expect(() => checkPrivilege()).not.toThrow();
  expect(() => checkPrivilege('CapInh:\t0\nCapEff:\t0000000000001000\n')).toThrow(/ with CAP_SYS_ADMIN$/);
  expect(() => checkPrivilege('')).toThrow(/ with CAP_NET_ADMIN and CAP_SYS_ADMIN$/);
});

test.each(['run', 'clean'])(
  'vl3 agent %s without privilege is one sentence and makes nothing',
  async (what) => {
    const directory = mkdtempSync(join(tmpdir(), 'vl3t-privilege-'));
    const main = resolve(import.meta.dirname, '../../../cmd/vl3/main.ts');
    const vl3 = [process.execPath, '--disable-warning=ExperimentalWarning', main, 'agent', what];
    const place = ['--state-dir', join(directory, 'state'), '--run-dir', join(directory, 'run')];
    try {
      const [code, stderr] = await new Promise<[unknown, string]>((done) => {
        const dropped = ['--bounding-set=-net_admin,-sys_admin', '--inh-caps=-net_admin,-sys_admin'];
        execFile('setpriv', [...dropped, ...vl3, ...place], (error, _, text) => done([error?.code, text]));
      });
      expect(stderr).toMatch(/^vl3: no privilege to make interfaces .*: run this as root, .*\n$/);
      expect(code).toBe(1);
      expect(() => rmSync(join(directory, 'state'))).toThrow(/ENOENT/);
    } finally {
      rmSync(directory, { recursive: true, force: true });
    }
  },
);
