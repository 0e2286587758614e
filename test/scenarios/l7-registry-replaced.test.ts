// L7: the registry is replaced by an empty one, and by yesterday's backup, under traffic: no packet is lost, no address is
// held twice, and the status says what happened.

import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import type { Daemon } from '../lab/daemon.ts';
import { Domain, SOON } from '../lab/domain.ts';
import type { Node } from '../lab/node.ts';
import type { Pod } from '../lab/pod.ts';
import { vl3 } from '../lab/program.ts';
import { Stream } from '../lab/stream.ts';

/** Nodes look for their network again within 15 s, and speak up within 7 s more. */
const RECOVERED = { timeout: 120_000, interval: 250 };

let domain: Domain;
let a1: Node;
let a2: Node;
/** Its agent is dead while the registry is replaced. */
let silent: Node;
let silentPrefixes: string[];
let client: Pod;
let web: Pod;

/** With ten minutes a minute of the usual six days is a few seconds. */
const startRegistry = (): Promise<void> => domain.startRegistry('--outage-budget', '10m');

beforeAll(async () => {
  domain = await Domain.start();
  await domain.stopRegistry();
  await startRegistry();
  await domain.createNetwork('red', '--pool-v4', '10.60.0.0/16', '--pool-v6', 'fd00:60::/48');
  a1 = await domain.startNode('a1', { networks: ['red'] });
  a2 = await domain.startNode('a2', { networks: ['red'] });
  client = await a1.pod('client', 'red');
  web = await a2.pod('web', 'red');
  silent = await domain.startNode('silent', { networks: ['red'] });
  await domain.meet('red');
  expect(await client.reaches(web.v4('red'))).toBe(true);
  silentPrefixes = await prefixesOf([silent]);
  await silent.agent.stop('SIGKILL');
}, 120_000);

afterAll(() => domain?.close());

/** Pings without pause while `work` happens, and says how many answers are missing. */
const lostDuring = async (work: () => Promise<void>): Promise<{ sent: number; lost: number }> => {
  const pings: Daemon = client.host.start(['ping', '-n', '-i', '0.05', '-W', '5', web.v4('red')]);
  await pings.printed(/icmp_seq=1 /, SOON.timeout);
  await work();
  // Some of them after it, too.
  await pings.printed(/icmp_seq=60 /, SOON.timeout);
  await pings.stop('SIGINT');
  const [, sent, received] = /(\d+) packets transmitted, (\d+) received/.exec(pings.output()) ?? [];
  // The last one may have been under way.
  return { sent: Number(sent), lost: Math.max(0, Number(sent) - Number(received) - 1) };
};

/** Under a TCP stream and pings at once. */
const under = async (work: () => Promise<void>): Promise<void> => {
  const stream = await Stream.open(client, web, web.v6('red'));
  try {
    const { sent, lost } = await lostDuring(work);
    const before = stream.progress.bytes;
    await vi.waitFor(() => expect(stream.progress.bytes).toBeGreaterThan(before + 1_000_000), SOON);
    expect(stream.progress.wrong).toBe(0);
    expect({ lost, enough: sent > 50 }).toEqual({ lost: 0, enough: true });
    console.log(
      `registry replaced: ${sent} pings, ${lost} lost, longest silence ${stream.progress.longestSilenceMs} ms`,
    );
  } finally {
    await stream.close();
  }
};

interface Recovering {
  storeId: string;
  recovery?: { reason: string; awaited: string[]; conflicts: string[] };
}

const registry = async (): Promise<Recovering> => await domain.adminJson('registry', 'status');

/** What is attached where, as the registry knows it. */
const known = async (): Promise<string[]> => {
  const attachments = await domain.adminJson<{ workload: string; addresses: string[] }[]>(
    'attachment',
    'list',
  );
  return attachments.map(({ workload, addresses }) => `${workload} ${addresses.join(' ')}`).sort();
};

const prefixesOf = async (nodes: readonly Node[]): Promise<string[]> =>
  (await Promise.all(nodes.map((node) => node.status()))).flatMap(({ networks }) =>
    networks.flatMap(({ prefixes }) => prefixes),
  );

/** Of a node, as the registry knows it. */
const leasedTo = async ({ name }: Node): Promise<string[]> => {
  const { leases } = await domain.adminJson<{ leases: { node: string; prefix: string }[] }>(
    'network',
    'show',
    'red',
  );
  return leases.flatMap(({ node, prefix }) => (node === name ? [prefix] : []));
};

const happened = async (node: Node): Promise<string> =>
  (await node.status()).events.map(({ what }) => what).join('\n');

test('an empty registry under the same CA learns from its nodes, and no packet is lost', async () => {
  const before = { known: await known(), prefixes: await prefixesOf([a1, a2]), store: await registry() };
  await under(async () => {
    await domain.stopRegistry('SIGKILL');
    for (const file of ['store.db', 'store.db-wal', 'store.db-shm'])
      rmSync(join(domain.registryState, file), { force: true });
    await startRegistry();
    await vi.waitFor(async () => expect(await known()).toEqual(before.known), RECOVERED);
    // Others have testified of the one that cannot speak.
    await vi.waitFor(
      async () => expect((await leasedTo(silent)).sort()).toEqual([...silentPrefixes].sort()),
      RECOVERED,
    );
    await vi.waitFor(async () => {
      for (const node of [a1, a2])
        expect(await happened(node)).toMatch(/the registry (was replaced|lost its memory)/);
    }, RECOVERED);
  });
  const now = await registry();
  expect(now.storeId).not.toBe(before.store.storeId);
  expect(now.recovery?.reason).toBe('empty');
  expect(await prefixesOf([a1, a2])).toEqual(before.prefixes);
  const { stdout } = await a1.tryVl3('status');
  expect(stdout).toMatch(/problem: the registry lost its memory/);
}, 240_000);

test('while it recovers it issues no prefix, and once an admin has settled it no node gets what another holds', async () => {
  const a3 = await domain.startNode('a3', { networks: ['red'] });
  await vi.waitFor(async () => {
    const [red] = (await a3.status()).networks;
    expect(red?.problem).toMatch(/registry settle/);
  }, SOON);
  await domain.admin('registry', 'settle');
  await silent.start();
  await domain.meet('red');
  expect(await prefixesOf([silent])).toEqual(silentPrefixes);
  const prefixes = await prefixesOf(domain.nodes);
  expect(new Set(prefixes).size).toBe(8);
  await vi.waitFor(async () => {
    for (const node of domain.nodes) expect((await node.tryVl3('status')).code).toBe(0);
  }, RECOVERED);
}, 240_000);

test("yesterday's backup takes the registry back, its nodes bring it up to date, and no packet is lost", async () => {
  const backup = join(domain.lab.scratch, 'yesterday.db');
  await domain.admin('registry', 'backup', backup);
  // Since then: another node, another pod, and one that went.
  const a4 = await domain.startNode('a4', { networks: ['red'] });
  const late = await a4.pod('late', 'red');
  await domain.meet('red');
  const before = await vi.waitFor(async () => {
    const all = await known();
    expect(all.join()).toContain('late');
    return { known: all, prefixes: await prefixesOf(domain.nodes) };
  }, SOON);
  expect(await client.reaches(late.v4('red'))).toBe(true);

  await under(async () => {
    await domain.stopRegistry('SIGKILL');
    await domain.host.run(vl3('registry', 'restore', backup, '--state-dir', domain.registryState, '--force'));
    await startRegistry();
    await vi
      .waitFor(async () => expect(await known()).toEqual(before.known), { ...RECOVERED, timeout: 40_000 })
      .catch((e) => {
        console.log(a1.agent.output().split('\n').slice(-30).join('\n'));
        console.log(JSON.stringify(domain.registryLog().slice(-30), null, 0));
        throw e;
      });
    // It ends by itself: all nodes that it knows have spoken.
    await vi.waitFor(async () => expect((await registry()).recovery).toBeUndefined(), {
      timeout: 180_000,
      interval: 500,
    });
  });
  expect(await prefixesOf(domain.nodes)).toEqual(before.prefixes);
  for (const node of domain.nodes) expect(await happened(node)).toMatch(/the registry was replaced/);

  const a5 = await domain.startNode('a5', { networks: ['red'] });
  await domain.meet('red');
  const prefixes = await prefixesOf(domain.nodes);
  expect(new Set(prefixes).size).toBe(12);
  expect(await late.reaches((await a5.pod('new', 'red')).v4('red'))).toBe(true);
}, 400_000);
