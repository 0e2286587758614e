// `vl3 agent clean` leaves nothing of an agent on the node: after it was stopped, after it was killed, and after it died
// in the middle of making something.

import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { LocalClient } from '../../src/agent/local-client.ts';
import { Domain } from '../lab/domain.ts';
import { Faults } from '../lab/faults.ts';
import { isLong } from '../lab/long.ts';
import type { Node } from '../lab/node.ts';
import { Pod } from '../lab/pod.ts';
import { vl3 } from '../lab/program.ts';

let domain: Domain;

beforeAll(async () => {
  domain = await Domain.start();
  await domain.createNetwork('red', '--pool-v4', '10.60.0.0/16', '--pool-v6', 'fd00:60::/48');
  await domain.createNetwork('green', '--pool-v4', '10.70.0.0/16');
}, 120_000);

afterAll(() => domain?.close());

const clean = async (node: Node): Promise<string[]> =>
  JSON.parse(await node.host.run(vl3('agent', 'clean', ...node.place, '-o', 'json'))).removed;

const expectNothing = async (node: Node, pods: readonly Pod[]): Promise<void> => {
  expect(readdirSync('/run/netns').filter((name) => name.startsWith(node.netnsPrefix))).toEqual([]);
  expect(existsSync(node.stateDir)).toBe(false);
  expect(existsSync(node.runDir)).toBe(false);
  for (const { host } of pods) {
    const links = await host.run(['ip', '-oneline', 'link']);
    expect(links.trim().split('\n'), links).toHaveLength(1);
    expect(await host.run(['sh', '-c', 'ip route; ip -6 route; ip neighbour'])).toBe('');
  }
  expect(await node.host.run(['nft', 'list', 'ruleset'])).toBe('');
};

test.each(['SIGTERM', 'SIGKILL'] as const)(
  'nothing is left after %s, and there is nothing left to remove',
  async (signal) => {
    const node = await domain.startNode(`by-${signal.toLowerCase()}`, { networks: ['red'] });
    const pods = [
      await node.pod(`one-${signal.toLowerCase()}`, 'red'),
      await node.pod(`two-${signal.toLowerCase()}`, 'red', 'green'),
    ];
    await node.agent.stop(signal);
    expect((await clean(node)).length).toBeGreaterThan(3);
    await expectNothing(node, pods);
    expect(await clean(node)).toEqual([]);
  },
  120_000,
);

/** Where it dies: at which step of attaching to red, where it is, or to green, where it is not yet. */
const EVERY_HALF = [
  { network: 'red', at: 8 },
  { network: 'red', at: 20 },
  { network: 'green', at: 8 },
  { network: 'green', at: 24 },
  { network: 'green', at: 45 },
];
const HALVES = EVERY_HALF.filter((_, i) => isLong || i % 2 === 1);

test('nothing is left of what was half made', async () => {
  for (const [i, { network, at }] of HALVES.entries()) {
    const faults = new Faults(join(domain.lab.scratch, `faults-${i}`));
    const node = await domain.startNode(`half-${i}`, { networks: ['red'], env: faults.env });
    const pods = [await node.pod(`whole-${i}`, 'red'), await Pod.create(domain.lab, `half-${i}`, node)];
    await faults.arm(node, { at });
    const attached = new LocalClient(node.socket).attach({ network, netns: pods[1]?.host.netns ?? '' });
    await Promise.race([attached.catch(() => undefined), sleep(20_000)]);
    await node.agent.stop('SIGKILL');
    expect(faults.steps).toHaveLength(at);
    await clean(node);
    await expectNothing(node, pods);
    expect(await clean(node)).toEqual([]);
  }
}, 180_000);

test('what is not its own stays', async () => {
  const node = await domain.startNode('guest', { networks: ['red'] });
  const pod = await node.pod('hosted', 'red');
  await pod.host.ip('link add other type veth peer name other-end');
  const foreign = `${node.netnsPrefix}elsewhere`;
  await domain.lab.run(['ip', 'netns', 'add', foreign]);
  mkdirSync(join(node.runDir, 'others'));
  writeFileSync(join(node.runDir, 'others', 'file'), '');
  await node.agent.stop('SIGTERM');
  await clean(node);
  expect(readdirSync('/run/netns')).toContain(foreign);
  expect(await pod.host.run(['ip', '-oneline', 'link'])).toContain('other-end');
  expect(readdirSync(node.runDir)).toEqual(['others']);
  await domain.lab.run(['ip', 'netns', 'delete', foreign]);
}, 60_000);
