// L1 and its relatives: agents and the registry are killed and come back, and connections live through it.

import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { Domain, SOON } from '../lab/domain.ts';
import { describeKills, killUnderStreams } from '../lab/kills.ts';
import { isLong } from '../lab/long.ts';
import type { Node } from '../lab/node.ts';
import { ping } from '../lab/ping.ts';
import { Pod } from '../lab/pod.ts';
import { Stream } from '../lab/stream.ts';

let domain: Domain;
let a1: Node;
let a2: Node;
let web: Pod;
let client: Pod;

beforeAll(async () => {
  domain = await Domain.start();
  await domain.createNetwork('red', '--pool-v4', '10.60.0.0/16', '--pool-v6', 'fd00:60::/48');
  a1 = await domain.startNode('a1', { networks: ['red'] });
  a2 = await domain.startNode('a2');
  web = await a2.pod('web', 'red');
  client = await a1.pod('client', 'red');
  await domain.meet('red');
}, 120_000);

afterAll(() => domain?.close());

const addresses = async (pod: Pod): Promise<string> =>
  await pod.host.run(['sh', '-c', 'ip -o address show dev red; ip -4 route; ip -6 route show dev red']);

/** Lets `interrupt` happen under a stream from client to web, and waits until it goes on. Returns the longest silence. */
const under = async (address: string, interrupt: () => Promise<void>): Promise<number> => {
  const stream = await Stream.open(client, web, address);
  try {
    await interrupt();
    const before = stream.progress.bytes;
    // More than what has piled up at the sender.
    await vi.waitFor(() => expect(stream.progress.bytes).toBeGreaterThan(before + 3_000_000), SOON);
    expect(stream.progress.wrong).toBe(0);
    return stream.progress.longestSilenceMs;
  } finally {
    await stream.close();
  }
};

test('a restarted agent calls whom it had a session with, however young, before anybody has something to say', async () => {
  expect((await ping(client.host, web.v4('red'), { count: 5, patience: 40 })).received).toBeGreaterThan(0);
  await a2.agent.stop('SIGKILL');
  await a2.start();
  await vi.waitFor(async () => expect((await a2.peer('red', a1))?.lastHandshakeAt).toBeGreaterThan(0), SOON);
  expect(await web.reaches(client.v4('red'))).toBe(true);
});

test.each([
  ["the receiving side's", 'a2', 'v4'],
  ["the sending side's", 'a1', 'v6'],
] as const)('a TCP stream lives through the death of %s agent', async (_, name, family) => {
  const node = name === 'a1' ? a1 : a2;
  const before = await Promise.all([web, client].map(addresses));
  const gap = await under(web[family]('red'), async () => {
    await node.agent.stop('SIGKILL');
    await node.start();
  });
  console.log(`agent of ${name} killed and restarted under a TCP stream: longest silence ${gap} ms`);
  expect(await Promise.all([web, client].map(addresses))).toEqual(before);
});

test('a TCP stream lives through the death of both agents at once', async () => {
  const gap = await under(web.v4('red'), async () => {
    await Promise.all([a1, a2].map((node) => node.agent.stop('SIGKILL')));
    await Promise.all([a1, a2].map((node) => node.start()));
  });
  console.log(`both agents killed and restarted under a TCP stream: longest silence ${gap} ms`);
});

test('four TCP streams at once live through kills of either agent', async () => {
  const streams = await Promise.all([
    Stream.open(client, web, web.v4('red')),
    Stream.open(client, web, web.v6('red')),
    Stream.open(web, client, client.v4('red')),
    Stream.open(web, client, client.v6('red')),
  ]);
  try {
    const kills = await killUnderStreams(streams, [a1, a2], isLong ? 4 : 2);
    console.log(`four TCP streams, ${describeKills(kills)}`);
    expect(kills).toMatchObject({ lost: [], wrong: 0 });
  } finally {
    await Promise.all(streams.map((stream) => stream.close()));
  }
}, 180_000);

test('an agent that is stopped ends with code 0 and leaves everything in the kernel as it was', async () => {
  const [other] = [await a1.pod('other', 'red')];
  const before = await addresses(client);
  const gap = await under(web.v6('red'), async () => {
    expect(await a1.agent.stop('SIGTERM')).toBe(0);
    // Pods of one node need no agent to talk to each other.
    expect(await client.reaches(other.v4('red'))).toBe(true);
    expect(await addresses(client)).toBe(before);
    await a1.start();
  });
  console.log(`agent of a1 stopped and started under a TCP stream: longest silence ${gap} ms`);
  expect(await addresses(client)).toBe(before);
});

test('while the registry is gone traffic flows, agents restart and pods attach; it returns and all is well', async () => {
  await domain.stopRegistry('SIGKILL');
  const late = await Pod.create(domain.lab, 'late', a2);
  await under(web.v4('red'), async () => {
    await a1.agent.stop('SIGKILL');
    await a1.start();
    await a2.attach(late, 'red');
  });
  expect(await client.reaches(late.v4('red'))).toBe(true);
  expect(await client.reaches(late.v6('red'))).toBe(true);
  await vi.waitFor(async () => {
    const { code, stdout } = await a1.tryVl3('status');
    expect(code).toBe(4);
    expect(stdout).toMatch(/problem: the registry does not answer: .*198\.51\.100\.5:7443/);
  }, SOON);

  await domain.startRegistry();
  await vi.waitFor(async () => {
    for (const node of [a1, a2]) expect((await node.tryVl3('status')).code).toBe(0);
    const nodes = await domain.adminJson<{ name: string; alive: boolean }[]>('node', 'list');
    expect(nodes.map(({ alive }) => alive)).toEqual([true, true]);
    const known = await domain.adminJson<{ workload: string }[]>('attachment', 'list');
    expect(known.map(({ workload }) => workload).sort()).toEqual(['client', 'late', 'other', 'web']);
  }, SOON);
}, 120_000);

test('a peer that was down when this node started is found when it comes', async () => {
  await Promise.all([a1, a2].map((node) => node.agent.stop('SIGTERM')));
  await a1.start();
  const waiting = client.reaches(web.v4('red'));
  await a2.start();
  expect(await waiting).toBe(true);
}, 120_000);
