// Installing on a node that is a temporary directory: order, modes, crashes, files that are rewritten, Cilium.

import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  watch,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { run } from '../../../cmd/vl3/program.ts';

const FIXTURES = resolve(import.meta.dirname, '../../fixtures/cni');
const SOON = { timeout: 20_000, interval: 20 };

let root: string;
let net: string;
let bin: string;
let plugin: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'vl3-cni-'));
  net = join(root, 'net.d');
  bin = join(root, 'bin');
  plugin = join(root, 'built.cjs');
  mkdirSync(net);
  mkdirSync(bin);
  writeFileSync(plugin, '#!/usr/bin/env node\nconsole.log("I am the plugin");\n');
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

interface Ran {
  code: number;
  out: string[];
  err: string[];
}
const vl3 = async (args: string[], signal = new AbortController().signal): Promise<Ran> => {
  const ran: Ran = { code: 0, out: [], err: [] };
  const context = {
    env: {},
    signal,
    out: (line: string) => void ran.out.push(line),
    err: (line: string) => void ran.err.push(line),
  };
  const exit = (code: number): void => {
    ran.code = code;
  };
  await run(args, { ...context, exit });
  return ran;
};
const place = () => ['--net-dir', net, '--bin-dir', bin];
const own = () => [...place(), '--plugin', plugin];
const install = (...more: string[]) => vl3(['cni', 'install', ...own(), '--node', process.execPath, ...more]);
const use = (name: string): string => {
  const path = join(net, name);
  copyFileSync(join(FIXTURES, name), path);
  return path;
};
const types = (path: string): string[] =>
  JSON.parse(readFileSync(path, 'utf8')).plugins.map(({ type }: { type: string }) => type);

test('installs the program, then the entry; takes off the entry, then the program; and nothing else has changed', async () => {
  const path = use('10-calico.conflist');
  chmodSync(path, 0o640);
  const before = readFileSync(path, 'utf8');
  expect((await install('--socket', '/run/other/agent.sock')).out).toEqual([
    `wrote ${bin}/vl3-cni`,
    `wrote ${path}`,
  ]);
  expect(execFileSync(join(bin, 'vl3-cni'), { encoding: 'utf8' })).toBe('I am the plugin\n');
  expect(types(path)).toEqual(['calico', 'portmap', 'bandwidth', 'vl3-cni']);
  expect(readFileSync(path, 'utf8')).toContain('/run/other/agent.sock');
  expect(statSync(path).mode & 0o777).toBe(0o640);
  expect((await install('--socket', '/run/other/agent.sock')).out.at(-1)).toMatch(/has the entry already/);

  const removed = await vl3(['cni', 'uninstall', ...place()]);
  expect(removed.out).toEqual([`changed ${path}`, `removed ${bin}/vl3-cni`]);
  expect(readFileSync(path, 'utf8')).toBe(before);
  expect(readdirSync(net)).toEqual(['10-calico.conflist']);
  expect(readdirSync(bin)).toEqual([]);
  expect((await vl3(['cni', 'uninstall', ...place()])).out).toEqual(['nothing to remove']);
});

test('what a crash left half-written goes with the rest', async () => {
  const path = use('10-calico.conflist');
  await install();
  const drafts = [join(net, '.0-vl3.conflist.new'), join(bin, '.vl3-cni.new')];
  for (const draft of drafts) writeFileSync(draft, '{');
  const { out } = await vl3(['cni', 'uninstall', ...place()]);
  expect(out).toEqual([
    `changed ${path}`,
    `changed ${drafts[0]}`,
    `removed ${bin}/vl3-cni`,
    `removed ${drafts[1]}`,
  ]);
  expect([readdirSync(net), readdirSync(bin)]).toEqual([['10-calico.conflist'], []]);
});

test('a configuration that every pod would suffer from is not touched', async () => {
  const path = join(net, '00-multus.conf');
  const text = '{"cniVersion":"0.3.1","name":"m","type":"multus"}';
  writeFileSync(path, text);
  const { code, err } = await install();
  expect(code).toBe(1);
  expect(err[0]).toMatch(/is of Multus.*informer alone/);
  expect(readdirSync(net)).toEqual(['00-multus.conf']);
  expect(readFileSync(path, 'utf8')).toBe(text);
});

test('brings its Node along unless one is named: that of the machine may go', async () => {
  use('10-flannel.conflist');
  expect(await vl3(['cni', 'install', ...own()])).toMatchObject({ code: 0 });
  expect(readdirSync(bin)).toEqual(['vl3-cni', 'vl3-node']);
  expect(readFileSync(join(bin, 'vl3-cni'), 'utf8')).toMatch(`#!${bin}/vl3-node\n`);
  expect(execFileSync(join(bin, 'vl3-cni'), { encoding: 'utf8', env: {} })).toBe('I am the plugin\n');
  await vl3(['cni', 'uninstall', ...place()]);
  expect(readdirSync(bin)).toEqual([]);
});

test('names what it brings as the node sees it, where it runs in a container', async () => {
  use('10-flannel.conflist');
  await install('--host-bin-dir', '/opt/cni/bin', '--node', '/opt/cni/bin/node');
  expect(readFileSync(join(bin, 'vl3-cni'), 'utf8')).toMatch('#!/opt/cni/bin/node\n');
});

test('a plugin that does not run here is not installed, and one that did stays', async () => {
  const path = use('10-flannel.conflist');
  const [absent, failing] = [
    await install('--node', '/usr/bin/no-node'),
    await install('--node', '/bin/false'),
  ];
  expect(absent.err[0]).toMatch(/does not run on this node \(ENOENT\): name a Node that does with --node/);
  expect(failing.err[0]).toMatch(/does not run on this node \(exit code 1\)/);
  expect(readdirSync(bin)).toEqual([]);
  expect(types(path)).toEqual(['flannel', 'portmap']);
  await install();
  expect(await install('--node', '/bin/false')).toMatchObject({ code: 1 });
  expect(execFileSync(join(bin, 'vl3-cni'), { encoding: 'utf8', env: {} })).toBe('I am the plugin\n');
  expect(types(path)).toEqual(['flannel', 'portmap', 'vl3-cni']);
});

test('a configuration that is a link goes on being one', async () => {
  const target = join(root, 'elsewhere.conflist');
  copyFileSync(join(FIXTURES, '10-aws.conflist'), target);
  symlinkSync(target, join(net, '10-aws.conflist'));
  await install();
  expect(types(target)).toEqual(['aws-cni', 'egress-cni', 'portmap', 'vl3-cni']);
});

test.each<[string, () => string[], RegExp]>([
  ['no configuration', () => [], /there is no CNI configuration yet: the cluster's own plugin/],
  ['no plugin', () => ['--plugin', '/proc/vl3'], /no built plugin at \/proc\/vl3: build it/],
  [
    'no directory',
    () => ['--bin-dir', '/proc/vl3'],
    /no directory \/proc\/vl3: name the runtime's with --bin-dir/,
  ],
  ['a Node that is none', () => ['--node', 'node'], /name Node by a whole path/],
])('%s is said in a sentence', async (_, more, sentence) => {
  const { code, err } = await install(...more());
  expect(code).toBe(1);
  expect(err).toHaveLength(1);
  expect(err[0]).toMatch(sentence);
  expect(readdirSync(net)).toEqual([]);
});

test('watching, it waits for a configuration, and puts the entry back when that is rewritten', async () => {
  const stop = new AbortController();
  const keeping = vl3(['cni', 'install', ...own(), '--node', process.execPath, '--watch'], stop.signal);
  const path = join(net, '10-flannel.conflist');
  await vi.waitFor(() => expect(readdirSync(bin)).toEqual(['vl3-cni']), SOON);
  for (let time = 0; time < 2; time++) {
    use('10-flannel.conflist');
    await vi.waitFor(() => expect(types(path)).toEqual(['flannel', 'portmap', 'vl3-cni']), SOON);
  }
  // Another that comes before it.
  use('05-cilium.conflist');
  await vi.waitFor(() => expect(types(join(net, '05-cilium.conflist'))).toContain('vl3-cni'), SOON);
  stop.abort();
  expect(await keeping).toMatchObject({ code: 0, err: [] });
  expect(types(path)).toContain('vl3-cni');
});

test('watching, it puts a lost program back; where it cannot, the entry goes, so that pods start all the same', async () => {
  const stop = new AbortController();
  const path = use('10-flannel.conflist');
  const keeping = vl3(['cni', 'install', ...own(), '--node', process.execPath, '--watch'], stop.signal);
  await vi.waitFor(() => expect(types(path)).toContain('vl3-cni'), SOON);
  const look = () => writeFileSync(join(net, 'other.txt'), String(Math.random()));
  rmSync(join(bin, 'vl3-cni'));
  look();
  await vi.waitFor(() => expect(readdirSync(bin)).toEqual(['vl3-cni']), SOON);
  rmSync(bin, { recursive: true });
  look();
  await vi.waitFor(() => expect(types(path)).toEqual(['flannel', 'portmap']), SOON);
  mkdirSync(bin);
  look();
  await vi.waitFor(() => expect(types(path)).toContain('vl3-cni'), SOON);
  expect(readdirSync(bin)).toEqual(['vl3-cni']);
  stop.abort();
  const { code, out } = await keeping;
  expect(code).toBe(0);
  expect(out.filter((line) => line.endsWith('which was not there'))).toHaveLength(2);
  expect(out.join('\n')).toMatch(/waiting: there is no directory .*bin/);
});

test('an entry of which the program cannot be put back goes, also at the start', async () => {
  const path = use('10-flannel.conflist');
  await install();
  rmSync(bin, { recursive: true });
  expect(await install('--watch')).toMatchObject({
    code: 1,
    err: [expect.stringMatching(/no directory .*bin/)],
  });
  expect(types(path)).toEqual(['flannel', 'portmap']);
});

test('Cilium that lets it be gets the entry; one that takes it out is not fought', async () => {
  const path = use('05-cilium.conflist');
  expect(await install()).toMatchObject({ code: 0, out: expect.arrayContaining([`wrote ${path}`]) });
  use('05-cilium.conflist');
  const cilium = watch(net, () => {
    if (types(path).includes('vl3-cni')) use('05-cilium.conflist');
  });
  try {
    const { code, err } = await install();
    expect(code).toBe(1);
    expect(err[0]).toMatch(
      /Cilium on this node takes vl3's entry out .* set cni\.exclusive=false .*informer alone/,
    );
    const kept = await vl3(['cni', 'install', ...own(), '--node', process.execPath, '--watch']);
    expect(kept.err[0]).toMatch(
      /took vl3's entry out of 05-cilium\.conflist 5 times .* set cni\.exclusive=false/,
    );
  } finally {
    cilium.close();
  }
});
