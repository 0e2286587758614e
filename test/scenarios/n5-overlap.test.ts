// N5: two networks may have the same pool, but no pod is on both; and a pool that overlaps what a pod reaches already, by a
// reserved range, an address of the node, a resolver or a route, is refused at attach with the reason, and warned of when
// it is created as far as the registry knows.

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { LocalClient } from '../../src/agent/local-client.ts';
import { Domain, SOON } from '../lab/domain.ts';
import type { Node } from '../lab/node.ts';
import { Pod } from '../lab/pod.ts';

let domain: Domain;
let a1: Node;

beforeAll(async () => {
  domain = await Domain.start();
  await domain.stopRegistry();
  await domain.startRegistry('--reserved-range', '10.96.0.0/12', '--reserved-range', 'fd00:96::/108');
  await domain.createNetwork('red', '--pool-v4', '10.60.0.0/16', '--pool-v6', 'fd00:60::/48');
  a1 = await domain.startNode('a1', { networks: ['red'], options: ['--reserved-range', '10.96.0.0/12'] });
}, 120_000);

afterAll(() => domain?.close());

const create = (name: string, pool: string) =>
  domain.tryAdmin(['network', 'create', name, '--pool-v4', pool]);
const attach = (netns: string, ...networks: string[]) =>
  a1.tryVl3('attach', '--netns', netns, '-o', 'json', ...networks.flatMap((one) => ['--network', one]));
const attachedTo = async (netns: string): Promise<string[]> =>
  (await new LocalClient(a1.socket).attachments())
    .filter((one) => one.netns === netns)
    .map(({ network }) => network)
    .sort();

const expectRefusal = async (netns: string, network: string, sentence: RegExp): Promise<void> => {
  const { code, stderr } = await attach(netns, network);
  expect(stderr).toMatch(sentence);
  expect(stderr.trim().split('\n')).toHaveLength(1);
  expect(code).toBe(1);
  expect(await attachedTo(netns)).not.toContain(network);
};

describe('two networks with the same pool', () => {
  let pod: Pod;

  test('are created, with a warning', async () => {
    const { code, stderr } = await create('red-too', '10.60.0.0/16');
    expect(stderr).toMatch(
      /^warning: 10\.60\.0\.0\/16 overlaps a pool of network "red": no workload can be on both/,
    );
    expect(code).toBe(0);
  });

  test('serve two pods of one node, with the same address if it comes to that', async () => {
    const [here, there] = [await a1.pod('here', 'red'), await a1.pod('there', 'red-too')];
    expect(there.v4('red-too')).toBe(here.v4('red'));
    for (const one of [here, there]) expect(await one.reaches('10.60.0.1')).toBe(true);
  });

  test('asked for at the same moment by one pod, are one attached and one refused', async () => {
    pod = await Pod.create(domain.lab, 'greedy', a1);
    const { code, stdout, stderr } = await attach(pod.host.netns, 'red', 'red-too');
    expect(stderr).toMatch(/10\.60\.0\.0\/16 overlaps .* which the pod reaches by another vl3 network/);
    expect(code).toBe(1);
    expect(JSON.parse(stdout)).toHaveLength(1);
    expect(await attachedTo(pod.host.netns)).toHaveLength(1);
    expect(await pod.reaches('10.60.0.1')).toBe(true);
  });

  test('by vl3 run are refused, and the command is not run', async () => {
    const run = await a1.tryVl3('run', '--network', 'red', '--network', 'red-too', '--', 'echo', 'ran');
    expect(run).toMatchObject({ code: 1, stdout: '', stderr: expect.stringMatching(/overlaps/) });
  });
});

describe('a pool that overlaps', () => {
  let pod: Pod;
  beforeAll(async () => {
    pod = await Pod.create(domain.lab, 'plain', a1);
  });

  test('a reserved range is warned of, and refused at attach', async () => {
    const { stderr } = await create('services', '10.100.0.0/16');
    expect(stderr).toMatch(/^warning: 10\.100\.0\.0\/16 overlaps 10\.96\.0\.0\/12, which is reserved/);
    await expectRefusal(
      pod.host.netns,
      'services',
      /10\.100\.0\.0\/16 overlaps 10\.96\.0\.0\/12, which is reserved/,
    );
  });

  test('an address of a node is warned of, and refused at attach', async () => {
    const { stderr } = await create('underlay', '198.51.100.0/24');
    expect(stderr).toMatch(
      /^warning: 198\.51\.100\.0\/24 holds addresses of a1: attaching is refused there/m,
    );
    await expectRefusal(
      pod.host.netns,
      'underlay',
      /overlaps 198\.51\.100\.\d+\/32, an address of this node/,
    );
  });

  test('a resolver of the workload is refused at attach', async () => {
    await create('resolving', '10.70.0.0/16');
    const conf = join(domain.lab.scratch, 'resolv.conf');
    writeFileSync(conf, 'search example\nnameserver 10.70.0.10\n');
    const script = `mount --bind ${conf} /etc/resolv.conf && echo ready && exec sleep 1000`;
    const workload = pod.host.start(['unshare', '--mount', 'sh', '-c', script]);
    await workload.printed(/ready/, SOON.timeout);
    const netns = `/proc/${workload.pid}/ns/net`;
    await expectRefusal(
      netns,
      'resolving',
      /10\.70\.0\.0\/16 overlaps 10\.70\.0\.10, a resolver of the workload/,
    );
    await workload.stop('SIGKILL');
  });

  test('a route of the pod is refused at attach, a default route is not', async () => {
    await create('routed', '10.80.0.0/16');
    await pod.host.ip('route add 10.80.5.0/24 dev lo', 'route add default dev lo');
    await expectRefusal(pod.host.netns, 'routed', /overlaps the route 10\.80\.5\.0\/24 on interface lo/);
    expect((await attach(pod.host.netns, 'red')).code).toBe(0);
    expect(await attachedTo(pod.host.netns)).toEqual(['red']);
  });

  test('something, and was refused, has left no interface and no address behind', async () => {
    const { networks } = await a1.status();
    for (const network of ['services', 'underlay', 'resolving', 'routed'])
      expect(networks.find(({ name }) => name === network)?.attachments ?? 0).toBe(0);
    expect(await pod.host.run(['ip', '-br', 'link', 'show', 'type', 'veth'])).toMatch(/^red\b.*\n$/);
  });
});
