// What ships: the tree compiled by deploy/build.sh, run without type stripping.

import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { copyFileSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { VERSION } from '../../../src/version.ts';
import { unusedPort } from '../../lab/unused-port.ts';

const ROOT = resolve(import.meta.dirname, '../../..');
const scratch = mkdtempSync(join(tmpdir(), 'vl3-build-'));
const dist = join(scratch, 'dist');
const vl3 = join(dist, 'cmd/vl3/vl3');
const env = { ...process.env, VL3_NODE: process.execPath, NODE_OPTIONS: '--no-experimental-strip-types' };

beforeAll(() => {
  const path = `${join(ROOT, 'node_modules/.bin')}:${process.env['PATH']}`;
  execFileSync('sh', [join(ROOT, 'deploy/build.sh'), dist], { env: { ...process.env, PATH: path } });
  symlinkSync(join(ROOT, 'node_modules'), join(dist, 'node_modules'));
});
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

test('the built program says the version of the package', () => {
  const { version } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'));
  expect(execFileSync(vl3, ['--version'], { env, encoding: 'utf8' })).toBe(`${version}\n`);
  expect(VERSION).toBe(version);
});

test('every command of the package ships and runs', () => {
  const { bin } = JSON.parse(readFileSync(join(dist, 'package.json'), 'utf8'));
  expect(Object.keys(bin)).toEqual(['vl3', 'vl3-wg']);
  for (const path of Object.values<string>(bin))
    expect(execFileSync(join(dist, path), ['--help'], { env, encoding: 'utf8' })).toMatch(/^Usage: vl3/);
});

test('the built registry comes up, answers its admin, and ends when it is told to', async () => {
  const state = join(scratch, 'registry');
  const place = ['--state-dir', state, '--listen', `127.0.0.1:${await unusedPort()}`];
  const registry = spawn(vl3, ['registry', 'run', '--trust-domain', 'test.example', ...place], {
    env,
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  const exited = once(registry, 'exit');
  try {
    let log = '';
    for await (const chunk of registry.stderr) {
      log += String(chunk);
      if (log.includes('registry is up')) break;
    }
    expect(log).toContain('registry is up');
    const admin = ['--admin', join(state, 'admin.json'), '-o', 'json'];
    const create = ['network', 'create', 'red', '--pool-v4', '10.60.0.0/16', ...admin];
    const [network] = JSON.parse(execFileSync(vl3, create, { env, encoding: 'utf8' }));
    expect(network).toMatchObject({ name: 'red', poolV4: '10.60.0.0/16' });
  } finally {
    registry.kill('SIGTERM');
  }
  expect(await exited).toEqual([0, null]);
});

test('the built packet workers start and stop', () => {
  const script = join(dist, 'start-datapath.js');
  writeFileSync(
    script,
    `import { Datapath } from './src/datapath/datapath.js';
    const ignore = () => {};
    const handlers = { onEvent: ignore, onDatagram: ignore, onDeviceLost: ignore, onFailure: ignore };
    await using datapath = await Datapath.start({ port: 0 }, handlers);
    console.log(datapath.port > 0);`,
  );
  expect(execFileSync(process.execPath, [script], { env, encoding: 'utf8', timeout: 30_000 })).toBe('true\n');
});

test('the built CNI plugin is one file that answers a runtime', () => {
  const cniEnv = { CNI_COMMAND: 'VERSION', PATH: process.env['PATH'] };
  const plugin = join(dist, 'cmd/vl3-cni/vl3-cni.cjs');
  // Anywhere, with nothing beside it.
  const elsewhere = join(scratch, 'vl3-cni');
  copyFileSync(plugin, elsewhere);
  const answer = execFileSync(process.execPath, [elsewhere], { env: cniEnv, input: '', encoding: 'utf8' });
  expect(JSON.parse(answer)).toMatchObject({ cniVersion: '1.1.0' });
});
