// vl3 registry backup and restore as an operator runs them, against a real registry.

import { cpSync, existsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import type { Context } from '../../../cmd/vl3/context.ts';
import { run } from '../../../cmd/vl3/program.ts';
import { connectAdmin } from '../../../src/registry/client.ts';
import { startRegistry } from '../../../src/registry/server.ts';
import {
  recordingLogger,
  red,
  startDomain,
  TRUST_DOMAIN,
  temporaryDirectory,
} from '../../src/registry/fixture.ts';

const attempt = async (...args: string[]): Promise<{ code: number; out: string; err: string }> => {
  const seen = { code: 0, out: '', err: '' };
  const context: Context = {
    env: {},
    out: (line) => {
      seen.out += `${line}\n`;
    },
    err: (line) => {
      seen.err += `${line}\n`;
    },
    signal: new AbortController().signal,
    exit: (code) => {
      seen.code = code;
    },
  };
  await run(args, context);
  return seen;
};

test('a registry is backed up while it runs, lost, restored elsewhere, and recovers', async () => {
  const domain = await startDomain();
  const admin = await domain.admin();
  await admin.createNetwork({ network: red });
  const node = await domain.enrol('a');
  await node.client.joinNetwork({ network: 'red' });
  const file = join(temporaryDirectory(), 'vl3.db');
  const backup = ['registry', 'backup', '--admin', domain.registry.adminFile];

  const made = await attempt(...backup, file, '-o', 'json');
  expect(made).toMatchObject({ code: 0, err: expect.stringContaining("CA's key is not in it") });
  expect(JSON.parse(made.out)).toMatchObject({ file, networks: 1, nodes: 1 });
  expect(statSync(file).mode & 0o777).toBe(0o600);
  expect(await attempt(...backup, file)).toMatchObject({ code: 1, err: expect.stringContaining('--force') });
  expect(await attempt(...backup, '--force', file)).toMatchObject({ code: 0 });

  const whileItRuns = ['--state-dir', domain.stateDirectory];
  expect(await attempt('registry', 'backup', ...whileItRuns, `${file}.2`)).toMatchObject({ code: 1 });
  expect(await attempt('registry', 'restore', ...whileItRuns, '--force', file)).toMatchObject({
    code: 1,
    err: expect.stringContaining('a registry runs on it'),
  });
  await domain.stop();
  expect(await attempt('registry', 'backup', ...whileItRuns, `${file}.2`)).toMatchObject({ code: 0 });
  expect(await attempt('registry', 'restore', ...whileItRuns, file)).toMatchObject({
    code: 1,
    err: expect.stringContaining('--force'),
  });

  const stateDirectory = temporaryDirectory();
  const restored = await attempt('registry', 'restore', '--state-dir', stateDirectory, file);
  expect(restored).toMatchObject({ code: 0, out: expect.stringContaining('the CA is not there') });
  cpSync(join(domain.stateDirectory, 'ca'), join(stateDirectory, 'ca'), { recursive: true });
  const registry = await startRegistry(
    { stateDirectory, trustDomain: TRUST_DOMAIN, listen: { host: '127.0.0.1', port: 0 } },
    { logger: recordingLogger().logger },
  );
  onTestFinished(() => registry[Symbol.asyncDispose]());
  await using connection = await connectAdmin(registry.adminFile);
  expect(await connection.client.getStatus({})).toMatchObject({
    networks: 1,
    recovery: { reason: 'restored', awaited: ['a'] },
  });
});

test('what cannot be restored or backed up is said in one sentence', async () => {
  const directory = temporaryDirectory();
  const nothing = join(directory, 'nothing');
  expect(await attempt('registry', 'restore', nothing, '--state-dir', directory)).toEqual({
    code: 1,
    out: '',
    err: `vl3: there is no backup at ${nothing}\n`,
  });
  expect(await attempt('registry', 'backup', '--state-dir', nothing, join(directory, 'b'))).toMatchObject({
    code: 1,
    err: expect.stringMatching(/^vl3: there is no store at .*\n$/),
  });
  expect(existsSync(nothing)).toBe(false);
  expect(await attempt('registry', 'restore', nothing)).toMatchObject({ code: 2 });
});
