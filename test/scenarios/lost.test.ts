// L3: a node that is lost without goodbye. Its routes leave every other node within the liveness lease and the silence
// that confirms it, pods there are told at once that it cannot be reached, its pods are served elsewhere, and it comes
// back by itself. A registry that is gone takes nobody's routes away.

import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { Domain, SOON } from '../lab/domain.ts';
import type { Node } from '../lab/node.ts';
import type { Pod } from '../lab/pod.ts';

let domain: Domain;
let a1: Node;
let a2: Node;
let a3: Node;
let client: Pod;
let web: Pod;

beforeAll(async () => {
  domain = await Domain.start();
  await domain.createNetwork('red', '--pool-v4', '10.60.0.0/16', '--pool-v6', 'fd00:60::/48');
  [a1, a2, a3] = await Promise.all([
    domain.startNode('a1', { networks: ['red'] }),
    domain.startNode('a2', { networks: ['red'] }),
    domain.startNode('a3', { networks: ['red'] }),
  ]);
  client = await a1.pod('client', 'red');
  web = await a2.pod('web', 'red');
  await domain.meet('red');
}, 120_000);

afterAll(() => domain?.close());

const withdrawn = async (node: Node): Promise<string[]> => {
  const { networks } = await node.status();
  return networks.flatMap(({ peers }) => peers.filter((peer) => peer.withdrawn).map((peer) => peer.node));
};

/** What a ping is answered with. */
const answer = async (address: string): Promise<string> =>
  (await client.host.tryRun(['ping', '-n', '-c', '1', '-W', '2', address])).stdout;

/** Lease (15 s), silence and answer, and a busy machine. */
const LONG = { timeout: 90_000, interval: 250 };

test('while the registry is gone, a silent node keeps its routes', async () => {
  expect(await client.reaches(web.v4('red'))).toBe(true);
  await domain.stopRegistry('SIGKILL');
  // Longer than every limit of silence.
  await new Promise((resolve) => setTimeout(resolve, 17_000));
  for (const node of [a1, a2, a3]) expect(await withdrawn(node)).toEqual([]);
  expect(await client.reaches(web.v4('red'))).toBe(true);
  await domain.startRegistry();
  await vi.waitFor(async () => {
    for (const node of [a1, a2, a3]) expect((await node.status()).problems).toEqual([]);
  }, SOON);
}, 120_000);

test('the routes of a lost node leave everywhere, and its addresses answer "unreachable"', async () => {
  const start = performance.now();
  await a2.agent.stop('SIGKILL');
  await vi.waitFor(async () => {
    for (const node of [a1, a3]) expect(await withdrawn(node)).toEqual(['a2']);
  }, LONG);
  console.log(`withdrawn everywhere ${Math.round((performance.now() - start) / 100) / 10} s after the kill`);
  for (const address of [web.v4('red'), web.v6('red')])
    await vi.waitFor(async () => expect(await answer(address)).toMatch(/unreachable/i), SOON);
  // Who is gone does not make the others ill.
  expect((await a1.status()).problems).toEqual([]);
}, 120_000);

test('its pods are served elsewhere', async () => {
  const again = await a3.pod('web-again', 'red');
  expect(await client.reaches(again.v4('red'))).toBe(true);
  expect(await client.reaches(again.v6('red'))).toBe(true);
});

test('it returns by itself', async () => {
  await a2.start();
  await vi.waitFor(async () => {
    for (const node of [a1, a3]) expect(await withdrawn(node)).toEqual([]);
  }, SOON);
  for (const address of [web.v4('red'), web.v6('red')]) expect(await client.reaches(address)).toBe(true);
});

test('a packet from it is enough, also when the registry cannot say that it is alive', async () => {
  await a2.agent.stop('SIGKILL');
  await vi.waitFor(async () => expect(await withdrawn(a1)).toEqual(['a2']), LONG);
  await domain.stopRegistry('SIGKILL');
  await a2.start();
  await vi.waitFor(async () => expect(await withdrawn(a1)).toEqual([]), SOON);
  expect(await client.reaches(web.v4('red'))).toBe(true);
  await domain.startRegistry();
}, 180_000);
