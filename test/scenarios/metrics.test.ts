// What a real agent and a real registry tell of themselves, judged by a strict reader: that counters move when the thing
// counted happens, and that health and readiness mean what they say.

import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { Domain, SOON } from '../lab/domain.ts';
import type { Host } from '../lab/host.ts';
import type { Node } from '../lab/node.ts';
import type { Pod } from '../lab/pod.ts';
import { vl3 } from '../lab/program.ts';
import { type Metric, parsePrometheusText, sumOf } from '../src/metrics/prometheus-text.ts';

const AGENT = '127.0.0.1:9643';
const REGISTRY = '127.0.0.1:9644';

let domain: Domain;
let a1: Node;
let a2: Node;
let web: Pod;

const ASK = 'const r = await fetch(process.argv[1]); console.log(JSON.stringify([r.status, await r.text()]))';

const ask = async (host: Host, at: string, path: string): Promise<[number, string]> =>
  JSON.parse(await host.run([process.execPath, '--input-type=module', '-e', ASK, `http://${at}${path}`]));

const scrape = async (host: Host, at: string): Promise<Map<string, Metric>> => {
  const [status, text] = await ask(host, at, '/metrics');
  expect(status).toBe(200);
  return parsePrometheusText(text);
};

const ofAgent = (node = a1): Promise<Map<string, Metric>> => scrape(node.host, AGENT);
const ofRegistry = (): Promise<Map<string, Metric>> => scrape(domain.host, REGISTRY);

beforeAll(async () => {
  domain = await Domain.start();
  await domain.stopRegistry();
  await domain.startRegistry('--metrics-listen', REGISTRY);
  await domain.createNetwork('red', '--pool-v4', '10.60.0.0/16', '--pool-v6', 'fd00:60::/48');
  const options = ['--metrics-listen', AGENT, '--metrics-peers', 'each'];
  a1 = await domain.startNode('a1', { networks: ['red'], options });
  a2 = await domain.startNode('a2', { networks: ['red'], options });
  web = await a1.pod('web', 'red');
  const db = await a2.pod('db', 'red');
  await domain.meet('red');
  await vi.waitFor(() => web.host.run(['ping', '-c', '1', '-W', '2', db.v4('red')]), SOON);
}, 180_000);

afterAll(() => domain?.close());

test('an agent tells of its peers, its traffic, its addresses and its control plane', async () => {
  await vi.waitFor(async () => {
    const metrics = await ofAgent();
    const red = { network: 'red' };
    expect(sumOf(metrics, 'vl3_agent_peers', red)).toBe(1);
    expect(sumOf(metrics, 'vl3_agent_peers_with_session', red)).toBe(1);
    expect(sumOf(metrics, 'vl3_agent_peer_handshake_age_seconds', { ...red, peer: 'a2' })).toBeLessThan(180);
    expect(sumOf(metrics, 'vl3_agent_handshake_age_max_seconds', red)).toBeLessThan(180);
    expect(metrics.get('vl3_agent_handshake_age_seconds')?.type).toBe('histogram');
    expect(sumOf(metrics, 'vl3_agent_bytes_total', { ...red, direction: 'out' })).toBeGreaterThan(84);
    expect(sumOf(metrics, 'vl3_agent_bytes_total', { ...red, direction: 'in' })).toBeGreaterThan(84);
    expect(sumOf(metrics, 'vl3_agent_packets_total', { direction: 'in' })).toBeGreaterThan(0);
    expect(sumOf(metrics, 'vl3_agent_leased_addresses', { ...red, family: 'v4' })).toBe(256);
    expect(sumOf(metrics, 'vl3_agent_leased_addresses', { ...red, family: 'v6' })).toBe(65_536);
    expect(sumOf(metrics, 'vl3_agent_used_addresses', { ...red, family: 'v4' })).toBe(1);
    expect(sumOf(metrics, 'vl3_agent_attachments', red)).toBe(1);
    expect(sumOf(metrics, 'vl3_agent_networks', { state: 'up' })).toBe(1);
    expect(sumOf(metrics, 'vl3_agent_registry_connected')).toBe(1);
    expect(sumOf(metrics, 'vl3_agent_aead_info')).toBe(1);
    expect(sumOf(metrics, 'vl3_agent_problems')).toBe(0);
    expect(sumOf(metrics, 'vl3_event_loop_lag_max_seconds')).toBeGreaterThanOrEqual(0);
    expect(sumOf(metrics, 'vl3_build_info')).toBe(1);
  }, SOON);
});

test('the README tells of every metric that is served, as it is served, and of no other', async () => {
  const readme = readFileSync(resolve(import.meta.dirname, '../../README.md'), 'utf8');
  const rows = [...readme.matchAll(/^\| `(vl3_\w+)` \| (\w+) \| ([a-z ]+|-) \| (.*) \|$/gm)];
  const told = new Map(rows.map(([, name = '', type, , help]) => [name, { type, help }]));
  // A webhook's have a test of their own.
  for (const name of told.keys()) if (name.startsWith('vl3_webhook_')) told.delete(name);
  const served = [...(await ofAgent()), ...(await ofRegistry())].filter(([name]) => name.startsWith('vl3_'));
  expect(served.length).toBeGreaterThan(30);
  for (const [name, { type, help }] of served)
    expect({ name, ...told.get(name) }).toEqual({ name, type, help });
  expect([...told.keys()].sort()).toEqual([...new Set(served.map(([name]) => name))].sort());
  for (const [, name = '', , labels = ''] of rows) {
    const samples = served.flatMap(([one, metric]) => (one === name ? metric.samples : []));
    for (const sample of samples)
      expect(
        Object.keys(sample.labels)
          .filter((label) => label !== 'le')
          .join(' ') || '-',
        name,
      ).toBe(labels);
  }
});

test('a packet to nobody and a datagram of nobody are counted by their reasons', async () => {
  const reasons = async (): Promise<[number, number]> => {
    const metrics = await ofAgent();
    const name = 'vl3_agent_dropped_packets_total';
    return [
      sumOf(metrics, name, { direction: 'out', reason: 'no-peer' }) ?? -1,
      sumOf(metrics, name, { direction: 'in', reason: 'unknown-index' }) ?? -1,
    ];
  };
  const [noPeer, unknown] = await reasons();
  await web.host.tryRun(['ping', '-c', '1', '-W', '1', '10.60.99.99']);
  // Transport data with a receiver index that nobody has.
  const send = `const s = (await import('node:dgram')).createSocket('udp4');
    const b = Buffer.alloc(64); b[0] = 4; s.send(b, 51820, '${a1.site.address}', () => s.close());`;
  await a2.host.run([process.execPath, '--input-type=module', '-e', send]);
  await vi.waitFor(async () => {
    const [nowNoPeer, nowUnknown] = await reasons();
    expect(nowNoPeer).toBeGreaterThan(noPeer);
    expect(nowUnknown).toBeGreaterThan(unknown);
  }, SOON);
});

test('a registry tells of its store, its watchers, its nodes and whom it refused', async () => {
  // What agents tell it, they tell a moment after they have it.
  const before = await vi.waitFor(async () => {
    const metrics = await ofRegistry();
    expect(sumOf(metrics, 'vl3_registry_nodes', { state: 'alive' })).toBe(2);
    expect(sumOf(metrics, 'vl3_registry_watchers')).toBe(2);
    expect(sumOf(metrics, 'vl3_registry_leases', { network: 'red', state: 'leased' })).toBe(4);
    expect(sumOf(metrics, 'vl3_registry_attachments')).toBe(2);
    return metrics;
  }, SOON);
  expect(sumOf(before, 'vl3_registry_store_bytes', { file: 'database' })).toBeGreaterThan(4096);
  await domain.createNetwork('green', '--pool-v4', '10.61.0.0/16');
  const token = await domain.token('--node', 'somebody');
  const nobody = await domain.cloud.node('nobody', 77);
  const place = [
    '--state-dir',
    `${domain.lab.scratch}/nobody`,
    '--run-dir',
    `${domain.lab.scratch}/nobody-run`,
  ];
  const prefix = ['--netns-prefix', domain.lab.owns(`${domain.lab.name}-nobody-`)];
  const refused = vl3('agent', 'run', ...place, ...prefix, '--name', 'another', '--token', token);
  expect((await nobody.host.tryRun(refused)).code).toBe(1);
  // What takes reading much is counted once a second.
  const after = await vi.waitFor(async () => {
    const metrics = await ofRegistry();
    expect(sumOf(metrics, 'vl3_registry_networks')).toBe(2);
    return metrics;
  }, SOON);
  expect(sumOf(after, 'vl3_registry_enrolments_refused_total')).toBe(1);
  for (const name of ['vl3_registry_revision', 'vl3_registry_transactions_total'])
    expect(sumOf(after, name)).toBeGreaterThan(sumOf(before, name) ?? 0);
  const timed = (metrics: Map<string, Metric>): number =>
    metrics
      .get('vl3_registry_transaction_duration_seconds')
      ?.samples.find(({ name }) => name.endsWith('_count'))?.value ?? 0;
  expect(timed(after)).toBeGreaterThan(timed(before));
});

test('both are healthy and ready, on addresses that nobody else can reach', async () => {
  for (const [host, at] of [
    [a1.host, AGENT],
    [domain.host, REGISTRY],
  ] as const) {
    expect(await ask(host, at, '/healthz')).toEqual([200, 'ok\n']);
    expect(await ask(host, at, '/readyz')).toEqual([200, 'ok\n']);
  }
  await expect(ask(a2.host, `${a1.site.address}:9643`, '/healthz')).rejects.toThrow();
});

test('while the registry is gone the watches go stale, and the agent stays healthy and ready', async () => {
  await domain.stopRegistry();
  try {
    await vi.waitFor(async () => {
      const metrics = await ofAgent();
      expect(sumOf(metrics, 'vl3_agent_registry_connected')).toBe(0);
      // It says something every ten seconds.
      expect(sumOf(metrics, 'vl3_agent_watch_staleness_seconds', { network: 'red' })).toBeGreaterThan(15);
      // Said once for the node, not again for each network.
      expect(sumOf(metrics, 'vl3_agent_problems')).toBe(1);
    }, SOON);
    expect(await ask(a1.host, AGENT, '/healthz')).toEqual([200, 'ok\n']);
    expect(await ask(a1.host, AGENT, '/readyz')).toEqual([200, 'ok\n']);
  } finally {
    await domain.startRegistry('--metrics-listen', REGISTRY);
  }
  await vi.waitFor(async () => {
    const metrics = await ofAgent();
    expect(sumOf(metrics, 'vl3_agent_watch_staleness_seconds', { network: 'red' })).toBeLessThan(15);
    expect(sumOf(metrics, 'vl3_agent_problems')).toBe(0);
  }, SOON);
});

test('an agent that waits to be enrolled is healthy and not ready', async () => {
  const lateToken = await domain.token();
  await domain.stopRegistry();
  const site = await domain.cloud.node('late', 78);
  const place = ['--state-dir', `${domain.lab.scratch}/late`, '--run-dir', `${domain.lab.scratch}/late-run`];
  const prefix = ['--netns-prefix', domain.lab.owns(`${domain.lab.name}-late-`)];
  const agent = site.host.start(
    vl3('agent', 'run', ...place, ...prefix, '--token', lateToken, '--metrics-listen', AGENT),
  );
  try {
    await agent.printed(/enrolment is tried again/, SOON.timeout);
    expect(await ask(site.host, AGENT, '/healthz')).toEqual([200, 'ok\n']);
    expect(await ask(site.host, AGENT, '/readyz')).toEqual([
      503,
      expect.stringContaining('waits for the registry'),
    ]);
  } finally {
    await agent.stop();
    await domain.startRegistry('--metrics-listen', REGISTRY);
  }
});
