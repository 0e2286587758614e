// N2: agents that start together get disjoint prefixes inside the pool. And what happens at the edges of a network's
// membership: a node on it without any pod, a pool that is used up, a node that an admin deletes.

import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { parsePrefix, prefixContains, prefixesOverlap } from '../../native-free/ipam/prefix.ts';
import { Domain, SOON } from '../lab/domain.ts';
import type { Node } from '../lab/node.ts';
import { ping } from '../lab/ping.ts';
import { reaches } from '../lab/pod.ts';

const POOL_V4 = '10.60.0.0/24';
const POOL_V6 = 'fd00:60::/48';
/** Of eight /27, the first is excluded: seven nodes fit. */
const EXCLUDED = '10.60.0.0/27';

interface Shown {
  leases: { prefix: string; node: string }[];
}

let domain: Domain;

beforeAll(async () => {
  domain = await Domain.start();
  const pools = ['--pool-v4', POOL_V4, '--pool-v6', POOL_V6];
  await domain.createNetwork('red', ...pools, '--node-prefix-length-v4', '27', '--exclude', EXCLUDED);
  const names = ['n1', 'n2', 'n3', 'n4', 'n5', 'n6'];
  const nodes = await Promise.all(names.map((name) => domain.addNode(name, { networks: ['red'] })));
  const tokens = await Promise.all(nodes.map(() => domain.token()));
  const agents = nodes.map((node, i) => node.launch('--name', node.name, '--token', tokens[i] ?? ''));
  await Promise.all(agents.map((agent) => agent.printed(/"agent is up"/, SOON.timeout)));
  await domain.meet('red');
}, 120_000);

afterAll(() => domain?.close());

const node = (name: string): Node => {
  const found = domain.nodes.find((one) => one.name === name);
  if (found === undefined) throw new Error(`no ${name}`);
  return found;
};

test('agents that start together get disjoint prefixes inside the pool', async () => {
  const { leases } = await domain.adminJson<Shown>('network', 'show', 'red');
  const prefixes = leases.map(({ prefix }) => parsePrefix(prefix));
  expect(leases.map((lease) => lease.node).sort()).toEqual(
    domain.nodes.flatMap(({ name }) => [name, name]).sort(),
  );
  for (const [i, one] of prefixes.entries()) {
    expect(prefixContains(parsePrefix(one.family === 4 ? POOL_V4 : POOL_V6), one)).toBe(true);
    expect(prefixesOverlap(parsePrefix(EXCLUDED), one)).toBe(false);
    for (const other of prefixes.slice(i + 1)) expect(prefixesOverlap(one, other)).toBe(false);
  }
});

test('each agent uses the prefixes the registry says are its own', async () => {
  const { leases } = await domain.adminJson<Shown>('network', 'show', 'red');
  for (const one of domain.nodes) {
    const own = leases.filter((lease) => lease.node === one.name).map(({ prefix }) => prefix);
    const status = await one.status();
    expect(status.networks[0]?.prefixes.toSorted()).toEqual(own.toSorted());
    for (const other of domain.nodes.filter((each) => each !== one)) {
      const theirs = leases.filter((lease) => lease.node === other.name).map(({ prefix }) => prefix);
      const peer = status.networks[0]?.peers.find((each) => each.node === other.name);
      expect(peer?.prefixes.toSorted()).toEqual(theirs.toSorted());
    }
  }
});

test('nodes that are on a network without any pod reach each other by their gateways', async () => {
  const gateways = (await Promise.all(domain.nodes.map((one) => one.status()))).flatMap(
    ({ networks }) => networks[0]?.gateways ?? [],
  );
  expect(new Set(gateways).size).toBe(12);
  for (const from of domain.nodes) {
    const answers = await Promise.all(gateways.map((to) => reaches(from.router('red'), to)));
    expect(answers).toEqual(gateways.map(() => true));
  }
});

test('a node that finds the pool used up is told so, is pending and harms nobody', async () => {
  await domain.startNode('n7', { networks: ['red'] });
  await vi.waitFor(async () => expect((await node('n7').status()).networks[0]?.state).toBe('up'), SOON);
  const eighth = await domain.startNode('n8', { networks: ['red'] });
  await vi.waitFor(async () => {
    const { networks, problems } = await eighth.status();
    expect(networks).toMatchObject([{ name: 'red', state: 'pending', peers: [] }]);
    expect(problems.join()).toMatch(/10\.60\.0\.0\/24/);
  }, SOON);
  const { leases } = await domain.adminJson<Shown>('network', 'show', 'red');
  expect(leases.filter((lease) => lease.node === 'n8')).toEqual([]);
  expect(await node('n1').status()).toMatchObject({ problems: [] });
});

test('a deleted node is dropped by its peers and refused from then on', async () => {
  const [n1, n6] = [node('n1'), node('n6')];
  const gateway = (await n1.status()).networks[0]?.gateways[0] ?? '';
  expect(await reaches(n6.router('red'), gateway)).toBe(true);

  const { freed } = await domain.adminJson<{ freed: { prefix: string }[] }>('node', 'delete', 'n6');
  expect(freed).toHaveLength(2);
  await Promise.all(
    domain.nodes
      .filter((one) => one !== n6 && one.name !== 'n8')
      .map((one) => vi.waitFor(async () => expect(await one.peer('red', n6)).toBeUndefined(), SOON)),
  );
  // Its agent runs on, with its keys and all it knows; nobody listens any more.
  expect(await ping(n6.router('red'), gateway, { count: 3, wait: 1 })).toMatchObject({ received: 0 });
  await vi.waitFor(
    async () =>
      expect((await n6.status()).problems.join('\n')).toMatch(
        /this node was deleted at the registry.*join token/,
      ),
    SOON,
  );
  const nodes = await domain.adminJson<{ name: string }[]>('node', 'list');
  expect(nodes.map(({ name }) => name)).not.toContain('n6');
});
