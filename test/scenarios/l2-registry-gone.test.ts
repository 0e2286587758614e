// L2: the registry is stopped. Traffic, restarts of agents and new attachments on leased prefixes go on, the status says for
// how long; it returns, and everything converges without a person.

import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { Domain, SOON } from '../lab/domain.ts';
import type { Node } from '../lab/node.ts';
import type { Pod } from '../lab/pod.ts';
import { Stream } from '../lab/stream.ts';

let domain: Domain;
let a1: Node;
let a2: Node;
let client: Pod;
let web: Pod;

beforeAll(async () => {
  domain = await Domain.start();
  await domain.stopRegistry();
  await domain.startRegistry('--outage-budget', '10m');
  await domain.createNetwork('red', '--pool-v4', '10.60.0.0/16', '--pool-v6', 'fd00:60::/48');
  a1 = await domain.startNode('a1', { networks: ['red'] });
  a2 = await domain.startNode('a2', { networks: ['red'] });
  client = await a1.pod('client', 'red');
  web = await a2.pod('web', 'red');
  await domain.meet('red');
  expect(await client.reaches(web.v4('red'))).toBe(true);
}, 120_000);

afterAll(() => domain?.close());

test('without a registry traffic goes on, agents restart, pods attach and detach, and all of it is known when it returns', async () => {
  const stream = await Stream.open(client, web, web.v4('red'));
  try {
    await domain.stopRegistry('SIGKILL');
    await vi.waitFor(async () => {
      const { stdout, code } = await a1.tryVl3('status');
      expect(code).toBe(4);
      expect(stdout).toMatch(/problem: the registry does not answer/);
      expect(stdout).toMatch(
        /the registry may be gone for another 1?\d min \d+ s; then new attachments stop, and at /,
      );
    }, SOON);

    const late = await a2.pod('late', 'red');
    await a2.agent.stop('SIGKILL');
    await a2.start();
    await a1.agent.stop('SIGTERM');
    await a1.start();
    const early = await a1.pod('early', 'red');
    expect(await early.reaches(late.v4('red'))).toBe(true);
    await a2.vl3('detach', '--network', 'red', '--netns', late.host.netns);
    // A restart does not wind the clock of a lease back.
    const { outageBudget } = await a2.status();
    expect(outageBudget.termMs).toBe(700_000);
    expect(outageBudget.leftMs).toBeLessThan(690_000);

    await domain.startRegistry('--outage-budget', '10m');
    await vi.waitFor(async () => {
      for (const node of [a1, a2]) {
        const { problems, networks } = await node.status();
        expect(problems).toEqual([]);
        // Renewed: all of it is left again.
        for (const { leftMs } of networks.flatMap(({ leases }) => leases))
          expect(leftMs).toBeGreaterThan(600_000);
      }
      const known = await domain.adminJson<{ workload: string }[]>('attachment', 'list');
      expect(known.map(({ workload }) => workload).sort()).toEqual(['client', 'early', 'web']);
    }, SOON);
    const before = stream.progress.bytes;
    await vi.waitFor(() => expect(stream.progress.bytes).toBeGreaterThan(before + 1_000_000), SOON);
    expect(stream.progress.wrong).toBe(0);
  } finally {
    await stream.close();
  }
}, 180_000);
