// An earlier version of vl3 beside the present one, and upgraded to it in place: registry first or agent first, traffic
// flows, pods attach, addresses stay. State of that version without its sources: test/src/agent/upgrade.test.ts.

import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { Domain, SOON } from '../lab/domain.ts';
import type { Node } from '../lab/node.ts';
import { hasCommit, oldVersion } from '../lab/old-version.ts';
import type { Pod } from '../lab/pod.ts';
import { type Program, vl3 } from '../lab/program.ts';
import { Stream } from '../lab/stream.ts';

/** The last before prefix leases had a term. */
const OLD = 'f1ced3c';

const isThere = hasCommit(OLD);
if (!isThere)
  console.log(`the history does not reach back to ${OLD} (a shallow clone?): nothing is tried with it`);

describe.skipIf(!isThere)(`beside and after ${OLD}`, () => {
  let domain: Domain;
  let old: Program;
  let before: Node;
  let now: Node;
  let web: Pod;
  let client: Pod;

  beforeAll(async () => {
    domain = await Domain.start((lab) => {
      old = oldVersion(lab, OLD);
      return old;
    });
    await domain.createNetwork('red', '--pool-v4', '10.60.0.0/16', '--pool-v6', 'fd00:60::/48');
    await domain.createNetwork('green', '--pool-v4', '10.70.0.0/16');
    before = await domain.startNode('before', { networks: ['red'], program: old });
    now = await domain.startNode('now', { networks: ['red'] });
    web = await before.pod('web', 'red');
    client = await now.pod('client', 'red');
    await domain.meet('red');
  }, 180_000);

  afterAll(() => domain?.close());

  const bothWays = async (a: Pod, b: Pod, network: string): Promise<void> => {
    expect(await a.reaches(b.v4(network))).toBe(true);
    expect(await b.reaches(a.v4(network))).toBe(true);
  };
  const podsOfBoth = async (name: string, network: string): Promise<void> => {
    const a = await before.pod(`${name}-${network}-a`, network);
    const b = await now.pod(`${name}-${network}-b`, network);
    await bothWays(a, b, network);
    const known = await domain.adminJson<{ workload: string }[]>('attachment', 'list', '--network', network);
    expect(known.map(({ workload }) => workload)).toEqual(
      expect.arrayContaining([`${name}-${network}-a`, `${name}-${network}-b`]),
    );
  };

  test('agents of both versions talk under the old registry, join and attach', async () => {
    await bothWays(web, client, 'red');
    await podsOfBoth('first', 'red');
    await podsOfBoth('first', 'green');
  }, 120_000);

  test('the registry is upgraded in place under a stream, and serves both', async () => {
    const stream = await Stream.open(client, web, web.v4('red'));
    await domain.stopRegistry('SIGTERM');
    domain.program = vl3;
    await domain.startRegistry();
    await vi.waitFor(async () => {
      const nodes = await domain.adminJson<{ name: string; alive: boolean }[]>('node', 'list');
      expect(nodes.map(({ name, alive }) => [name, alive])).toEqual([
        ['before', true],
        ['now', true],
      ]);
    }, SOON);
    await podsOfBoth('second', 'red');
    await podsOfBoth('second', 'green');
    expect(stream.progress.wrong).toBe(0);
    await stream.close();
  }, 180_000);

  test('the agent is upgraded in place under a stream: nothing moves, and all is well', async () => {
    const interfaces = () => web.host.run(['sh', '-c', 'ip -o address; ip route; ip -6 route']);
    const held = async () =>
      (await before.status()).networks.map(({ name, prefixes }) => `${name} ${prefixes.join(' ')}`).sort();
    const addresses = await interfaces();
    const prefixes = await held();
    const stream = await Stream.open(client, web, web.v6('red'));
    await before.agent.stop('SIGKILL');
    before.program = vl3;
    await before.start();
    const { bytes } = stream.progress;
    await vi.waitFor(() => expect(stream.progress.bytes).toBeGreaterThan(bytes + 3_000_000), SOON);
    expect(stream.progress.wrong).toBe(0);
    await stream.close();
    expect(await interfaces()).toBe(addresses);
    expect(await held()).toEqual(prefixes);
    await podsOfBoth('third', 'red');
    await podsOfBoth('third', 'green');
    await vi.waitFor(async () => {
      for (const node of [before, now]) expect((await node.status()).problems).toEqual([]);
    }, SOON);
  }, 180_000);
});
