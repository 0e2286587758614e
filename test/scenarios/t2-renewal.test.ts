// T2: renewal happens unattended, and peers already verified keep working when a clock jumps. The outage budget is a
// minute here. What expiry does takes longer: t2-expiry.long.test.ts.

import { writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import type { Daemon } from '../lab/daemon.ts';
import { Domain, SOON } from '../lab/domain.ts';
import type { Node } from '../lab/node.ts';
import { ping } from '../lab/ping.ts';
import type { Pod } from '../lab/pod.ts';

const DAY = 24 * 3_600_000;
const PROGRAM = resolve(import.meta.dirname, 'clocked-agent.ts');

let domain: Domain;
let steady: Node;
/** The node whose clock jumps. */
let jumpy: Node;
let agent: Daemon;
let client: Pod;
let web: Pod;

const clockFile = (): string => join(domain.lab.scratch, 'jumpy-offset');
const setClock = (offset: number): void => writeFileSync(clockFile(), String(offset));

const startJumpy = async (token = 'used'): Promise<void> => {
  const { stateDir, runDir, netnsPrefix, name } = jumpy;
  const place = {
    stateDirectory: stateDir,
    runDirectory: runDir,
    netnsPrefix,
    name,
    token,
    networks: ['red'],
  };
  agent = jumpy.host.start([
    process.execPath,
    '--disable-warning=ExperimentalWarning',
    PROGRAM,
    clockFile(),
    JSON.stringify(place),
  ]);
  await agent.printed(/"agent is up"/, SOON.timeout);
};

beforeAll(async () => {
  domain = await Domain.start();
  await domain.stopRegistry();
  await domain.startRegistry('--outage-budget', '60s');
  await domain.createNetwork('red', '--pool-v4', '10.60.0.0/16', '--pool-v6', 'fd00:60::/48');
  steady = await domain.startNode('steady', { networks: ['red'] });
  jumpy = await domain.addNode('jumpy');
  setClock(0);
  await startJumpy((await domain.token('--node', 'jumpy')).trim());
  client = await jumpy.pod('client', 'red');
  web = await steady.pod('web', 'red');
  await steady.meets('red', [jumpy]);
  expect(await client.reaches(web.v4('red'))).toBe(true);
}, 120_000);

afterAll(() => domain?.close());

test('SVIDs, leases and records are renewed long before they end, without anybody', async () => {
  const before = await steady.status();
  expect(before.outageBudget.termMs).toBe(70_000);
  await vi.waitFor(async () => {
    const now = await steady.status();
    expect(now.svidNotAfter).toBeGreaterThan(before.svidNotAfter + 10_000);
    const leases = now.networks.flatMap((network) => network.leases);
    expect(leases).toHaveLength(2);
    const ends = before.networks.flatMap((network) => network.leases.map(({ endsAt }) => endsAt));
    for (const { endsAt, phase } of leases) {
      expect(phase).toBe('good');
      expect(endsAt).toBeGreaterThan(Math.max(...ends) + 10_000);
    }
    expect(now.outageBudget.leftMs).toBeGreaterThan(40_000);
    expect(now.problems).toEqual([]);
  }, SOON);
  const { stdout, code } = await steady.tryVl3('status');
  expect(code).toBe(0);
  expect(stdout).toMatch(/the registry may be gone for another [^;]+; then new attachments stop/);
  expect(stdout).toMatch(/lease 10\.60\.\d+\.0\/24: good, ends in/);
}, 120_000);

test.each([
  ['a month ahead', 30 * DAY],
  ['a month back', -30 * DAY],
])(
  'a clock that jumps %s cuts nobody off, over a restart of the agent either, and what it upset heals',
  async (_, jump) => {
    setClock(jump);
    await vi.waitFor(async () => {
      const { problems } = await jumpy.status();
      expect(problems.join()).toMatch(/the clock of this machine says .*set the clock right/);
    }, SOON);
    expect((await ping(client.host, web.v4('red'), { count: 20, interval: 0.1 })).received).toBe(20);

    await agent.stop('SIGKILL');
    await startJumpy();
    // Known again from what was saved, by the time that has passed and not by the clock.
    const peers = (await jumpy.status()).networks.flatMap((network) => network.peers.map(({ node }) => node));
    expect(peers).toEqual(['steady']);
    expect(await client.reaches(web.v4('red'))).toBe(true);

    setClock(0);
    await vi.waitFor(async () => expect((await jumpy.status()).problems).toEqual([]), SOON);
    expect(await client.reaches(web.v4('red'))).toBe(true);
  },
  180_000,
);
