// N6: nothing new is handed out of excluded prefixes, also of those that are excluded later; what is inside already stays,
// and is listed.

import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { Domain, SOON } from '../lab/domain.ts';
import type { Node } from '../lab/node.ts';
import { Pod } from '../lab/pod.ts';

interface Shown {
  leases: { prefix: string; node: string }[];
  excludedUses: { range: string; kind: string; node: string; held: string; workload?: string }[];
}

let domain: Domain;
let a1: Node;
let early: Pod;

beforeAll(async () => {
  domain = await Domain.start();
  // Of four /26 the first is out from the start.
  const pool = ['--pool-v4', '10.60.0.0/24', '--node-prefix-length-v4', '26'];
  await domain.createNetwork('red', ...pool, '--exclude', '10.60.0.0/26', '--exclude', '10.60.0.66/31');
  a1 = await domain.startNode('a1');
  early = await a1.pod('early', 'red');
}, 120_000);

afterAll(() => domain?.close());

const show = (): Promise<Shown> => domain.adminJson<Shown>('network', 'show', 'red');
const update = (...options: string[]) => domain.tryAdmin(['network', 'update', 'red', ...options]);

test('excluded from the start, a range is neither leased nor handed out', async () => {
  expect((await show()).leases).toMatchObject([{ prefix: '10.60.0.64/26', node: 'a1' }]);
  expect(early.v4('red')).toBe('10.60.0.68');
  expect((await show()).excludedUses).toEqual([]);
  const pod = await Pod.create(domain.lab, 'asking', a1);
  const asked = await a1.tryVl3(
    'attach',
    '--network',
    'red',
    '--netns',
    pod.host.netns,
    '--address',
    '10.60.0.66',
  );
  expect(asked).toMatchObject({
    code: 1,
    stderr: expect.stringMatching(/10\.60\.0\.66 is in a range that nothing/),
  });
});

test('excluded later, a range is listed with what it holds: a gateway and an attachment', async () => {
  await vi.waitFor(async () => {
    const known = await domain.adminJson<unknown[]>('attachment', 'list', '--network', 'red');
    expect(known).toHaveLength(1);
  }, SOON);
  const { code, stderr } = await update('--exclude', '10.60.0.64/27');
  expect(code).toBe(0);
  expect(stderr.trim().split('\n').sort()).toEqual([
    'warning: 10.60.0.65, the gateway address of node a1, lies in the excluded range 10.60.0.64/27: it stays until that node leaves the network',
    'warning: 10.60.0.68, held by early on node a1, lies in the excluded range 10.60.0.64/27: it stays until that is detached',
  ]);
  const range = '10.60.0.64/27';
  expect((await show()).excludedUses).toMatchObject([
    { range, kind: 'gateway', node: 'a1', held: '10.60.0.65' },
    { range, kind: 'attachment', node: 'a1', held: '10.60.0.68', workload: 'early' },
  ]);
  expect(await domain.admin('network', 'show', 'red')).toMatch(
    /10\.60\.0\.64\/27 +10\.60\.0\.68 +attachment +a1 +early/,
  );
});

test('nothing new comes out of it, what is inside works on, also after the agent was killed', async () => {
  await vi.waitFor(async () => {
    const { problems } = await a1.status();
    expect(problems.join()).toMatch(/gateway address 10\.60\.0\.65 lies in an excluded range/);
  }, SOON);
  const late = await a1.pod('late', 'red');
  expect(late.v4('red')).toBe('10.60.0.96');
  expect(await early.reaches(late.v4('red'))).toBe(true);
  await a1.agent.stop('SIGKILL');
  await a1.start();
  expect((await a1.attach(early, 'red')).addresses).toEqual(['10.60.0.68']);
  expect(await late.reaches(early.v4('red'))).toBe(true);
  expect((await a1.pod('later', 'red')).v4('red')).toBe('10.60.0.97');
});

test('a whole prefix that is excluded is followed by another', async () => {
  await update('--exclude', '10.60.0.64/26');
  await vi.waitFor(async () => {
    const pod = await a1.pod(`moved${Math.random().toString(36).slice(2, 8)}`, 'red');
    expect(pod.v4('red')).toBe('10.60.0.130');
  }, SOON);
  expect((await show()).excludedUses.map(({ kind }) => kind)).toContain('prefix');
  expect(await early.reaches('10.60.0.130')).toBe(true);
});
