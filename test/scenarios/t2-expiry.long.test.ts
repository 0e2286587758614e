// T2 past the outage budget, a minute here: what runs out is used no more, an expired SVID opens no control connection and
// nobody believes it, and a new join token brings everything back.

import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { LocalClient } from '../../src/agent/local-client.ts';
import { Domain, SOON } from '../lab/domain.ts';
import type { Node } from '../lab/node.ts';
import { ping } from '../lab/ping.ts';
import type { Pod } from '../lab/pod.ts';

const BUDGET = ['--outage-budget', '60s'];
/** Seven sixths of the budget, and what a busy machine takes. */
const PAST_IT = { timeout: 150_000, interval: 250 };

let domain: Domain;
let a1: Node;
let a2: Node;
let client: Pod;
let web: Pod;

beforeAll(async () => {
  domain = await Domain.start();
  await domain.stopRegistry();
  await domain.startRegistry(...BUDGET);
  await domain.createNetwork('red', '--pool-v4', '10.60.0.0/16');
  a1 = await domain.startNode('a1', { networks: ['red'] });
  a2 = await domain.startNode('a2', { networks: ['red'] });
  client = await a1.pod('client', 'red');
  web = await a2.pod('web', 'red');
  await domain.meet('red');
  expect(await client.reaches(web.v4('red'))).toBe(true);
}, 120_000);

afterAll(() => domain?.close());

test('a registry that is gone for longer than the budget ends new attachments, then attachments, then peers', async () => {
  await domain.stopRegistry();
  // Until the end is near everything goes on.
  await vi.waitFor(async () => {
    const { outageBudget, problems } = await a1.status();
    expect(outageBudget.leftMs).toBeLessThan(35_000);
    expect(problems.join()).toMatch(/the registry may be gone for another \d+ s; then new attachments stop/);
  }, PAST_IT);
  expect((await ping(client.host, web.v4('red'), { count: 5, interval: 0.2 })).received).toBe(5);

  await vi.waitFor(async () => {
    const { networks, problems } = await a1.status();
    expect(networks.flatMap(({ leases }) => leases.map(({ phase }) => phase))).toEqual(['ended']);
    expect(networks.flatMap(({ peers }) => peers)).toEqual([]);
    expect(problems.join()).toMatch(/the SVID of this node has expired/);
  }, PAST_IT);
  const attachments = await new LocalClient(a1.socket).attachments();
  expect(attachments).toEqual([expect.objectContaining({ workload: 'client', addresses: [], ready: false })]);
  expect((await client.host.run(['ip', '-o', 'link'])).includes('red')).toBe(false);
}, 240_000);

test('an expired SVID opens no control connection, over a restart of the agent either', async () => {
  await domain.startRegistry(...BUDGET);
  await a1.agent.stop();
  await a1.start();
  await vi.waitFor(async () => {
    const { problems, registry } = await a1.status();
    expect(registry.connected).toBe(false);
    expect(problems.join()).toMatch(
      /the SVID of this node has expired: start the agent with a new join token/,
    );
  }, SOON);
  const refused = domain.registryLog().filter(({ reason }) => /certificate/.test(String(reason)));
  expect(refused.length).toBeGreaterThan(0);
  // A registry that starts gives all nodes a while.
  await vi.waitFor(async () => {
    const nodes = await domain.adminJson<{ name: string; alive: boolean }[]>('node', 'list');
    expect(nodes.map(({ alive }) => alive)).toEqual([false, false]);
  }, SOON);
}, 120_000);

test('with a new join token everything comes back by itself', async () => {
  for (const node of [a1, a2]) {
    await node.agent.stop();
    await node.enrol();
  }
  await domain.meet('red');
  const addressOf = async (node: Node): Promise<string> => {
    const [one] = await new LocalClient(node.socket).attachments();
    const [address] = one?.ready === true ? one.addresses : [];
    if (address === undefined) throw new Error(`${node.name} has nothing attached`);
    return address;
  };
  await vi.waitFor(() => addressOf(a1), SOON);
  const address = await vi.waitFor(() => addressOf(a2), SOON);
  expect(await client.reaches(address)).toBe(true);
}, 180_000);
