// K2: a real container runtime starts containers with the plugin, as it was built and installed.

import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { LocalClient } from '../../src/agent/local-client.ts';
import { Domain, SOON } from '../lab/domain.ts';
import type { Node } from '../lab/node.ts';
import type { Pod } from '../lab/pod.ts';
import { Podman } from '../lab/podman.ts';
import { vl3 } from '../lab/program.ts';

const ROOT = resolve(import.meta.dirname, '../..');

let domain: Domain;
let a1: Node;
let web: Pod;
let podman: Podman;
let before: string;

const place = () => ['--net-dir', podman.netDirectory, '--bin-dir', podman.binDirectory];
const conflist = () => join(podman.netDirectory, '10-lab.conflist');

beforeAll(async () => {
  domain = await Domain.start();
  await domain.createNetwork('red', '--pool-v4', '10.60.0.0/16', '--pool-v6', 'fd00:60::/48');
  a1 = await domain.startNode('a1');
  const b1 = await domain.startNode('b1');
  web = await b1.pod('web', 'red');
  podman = new Podman(domain.lab, a1.host);
  before = readFileSync(conflist(), 'utf8');
  const plugin = join(domain.lab.scratch, 'vl3-cni.cjs');
  const path = `${join(ROOT, 'node_modules/.bin')}:${process.env['PATH']}`;
  execFileSync('sh', [join(ROOT, 'deploy/bundle-cni.sh'), plugin], { env: { ...process.env, PATH: path } });
  await a1.host.run(vl3('cni', 'install', ...place(), '--plugin', plugin, '--socket', a1.socket));
  // Podman passes no annotations: the entry says what its containers are on.
  const list = JSON.parse(readFileSync(conflist(), 'utf8'));
  list.plugins[1].networks = 'red/net1?made=by-podman';
  writeFileSync(conflist(), JSON.stringify(list));
}, 120_000);

afterAll(async () => {
  await domain?.close();
  podman?.close();
});

const attached = () => new LocalClient(a1.socket).attachments();

test('a container is on its network, reaches other nodes and is reached, and leaves nothing behind', async () => {
  const container = podman.start('one', ['sh', '-c', 'trap "exit 0" TERM; echo ready; sleep 600 & wait']);
  await container.printed(/^ready$/m, SOON.timeout);
  const [attachment] = await attached();
  expect(attachment).toMatchObject({
    network: 'red',
    interfaceName: 'net1',
    labels: { made: 'by-podman' },
    ready: true,
  });
  for (const address of attachment?.addresses ?? []) expect(await web.reaches(address)).toBe(true);
  expect(podman.leftovers()).not.toEqual([]);
  await container.stop('SIGTERM', 30_000);
  await vi.waitFor(async () => expect(await attached()).toEqual([]), SOON);
  await vi.waitFor(() => expect(podman.leftovers()).toEqual([]), SOON);
});

test('its first process has the network already', async () => {
  const { code, stdout, stderr } = await podman.run('two', [
    ...['sh', '-c', `ip address show dev net1 && ip route && ping -c 3 -w 20 ${web.v4('red')}`],
  ]);
  expect(stderr).toBe('');
  expect({ code, stdout }).toMatchObject({ code: 0, stdout: expect.stringMatching(/inet 10\.60\./) });
  expect(stdout).toMatch(/default via 10\.89\.0\.1 dev eth0/);
  expect(await attached()).toEqual([]);
  expect(podman.leftovers()).toEqual([]);
});

test('a container is not started when what it asks for cannot be, and nothing of it stays', async () => {
  const text = readFileSync(conflist(), 'utf8');
  writeFileSync(conflist(), text.replace('red/net1', 'blue/net1'));
  try {
    const { code, stderr } = await podman.run('three', ['sh', '-c', 'echo started']);
    expect(code).not.toBe(0);
    expect(stderr).toMatch(/there is no network \\?"blue/);
    expect(await attached()).toEqual([]);
    expect(podman.leftovers()).toEqual([]);
  } finally {
    writeFileSync(conflist(), text);
  }
});

test('once it is uninstalled, containers start as before', async () => {
  await a1.host.run(vl3('cni', 'uninstall', ...place()));
  expect(JSON.parse(readFileSync(conflist(), 'utf8'))).toEqual(JSON.parse(before));
  const { code, stdout } = await podman.run('four', ['ip', 'link']);
  expect(code).toBe(0);
  expect(stdout).not.toMatch(/net1/);
});
