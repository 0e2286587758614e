// L4: attaching and detaching again and again, and all pods to zero and back: what the agent and the kernel hold before
// and after. `churn.test.ts` does it a few times, `churn.long.test.ts` a thousand.

import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, vi } from 'vitest';
import { LocalClient } from '../../src/agent/local-client.ts';
import { Domain, SOON } from '../lab/domain.ts';
import { documents, footprint } from '../lab/footprint.ts';
import { Pod } from '../lab/pod.ts';
import { type Weight, weigh, weighable } from '../lab/weight.ts';

export interface Churn {
  readonly before: Weight;
  readonly after: Weight;
  /** Once the agent has had time to give memory back; undefined: it was not waited for. */
  readonly atPeace: Weight | undefined;
  /** Lines that tell what is in the kernel of the agent's making. */
  readonly kernel: { readonly before: number; readonly after: number };
}

const PODS = 8;
/** So many times. */
const WORTH_WAITING = 500;
/** Some more than the agent waits (src/agent/tidying). */
const PEACE_MS = 25_000;
/** Until caches are filled and code is compiled. */
const WARM_UP = 5;

/** Attaches and detaches about `times` times. Throws when the kernel or the documents differ after it. */
export const churn = async (times: number): Promise<Churn> => {
  await using domain = await Domain.start();
  await domain.createNetwork('red', '--pool-v4', '10.60.0.0/16', '--pool-v6', 'fd00:60::/48');
  const file = join(domain.lab.scratch, 'memory');
  const node = await domain.startNode('a1', { networks: ['red'], env: weighable(file) });
  const stays = await node.pod('stays', 'red');
  const pods: Pod[] = [];
  for (let i = 0; i < PODS; i++) pods.push(await Pod.create(domain.lab, `p${i}`, node));
  const client = new LocalClient(node.socket);
  const around = async (): Promise<void> => {
    // All at once: from zero to all, and back.
    await Promise.all(
      pods.map(({ name, host }) => client.attach({ network: 'red', netns: host.netns, workload: name })),
    );
    const detached = await Promise.all(
      pods.map(({ host }) => client.detach({ network: 'red', netns: host.netns })),
    );
    expect(detached.flat()).toHaveLength(PODS);
  };
  const everything = () =>
    footprint(
      node,
      [stays, ...pods].map(({ host }) => host),
    );
  // What is leased grows while addresses rest that were given back, and shrinks some time later.
  const isLease = (line: string): boolean => line.includes(': unreachable ');
  const kernel = async () => (await everything()).filter((line) => !isLease(line));
  const expectOnlyLeases = async (): Promise<void> => {
    const leased = (await node.status()).networks.flatMap(({ prefixes }) => prefixes);
    const found = (await everything()).filter(isLease).map((line) => line.split(' ')[2] ?? '');
    expect([...new Set(found)].sort()).toEqual(leased.sort());
  };
  const registry = async () =>
    (await domain.adminJson<{ id: string }[]>('attachment', 'list')).map(({ id }) => id);
  const quiet = () => vi.waitFor(async () => expect(await registry()).toEqual([stays.on('red').id]), SOON);
  for (let i = 0; i < WARM_UP; i++) await around();
  await quiet();
  const kernelBefore = await kernel();
  const before = await weigh(node.agent.pid, file);
  for (let i = 0; i < Math.ceil(times / PODS); i++) await around();
  await quiet();
  await vi.waitFor(async () => expect(await kernel()).toEqual(kernelBefore), SOON);
  await vi.waitFor(expectOnlyLeases, SOON);
  const kept = documents(node).filter(({ kind }) => kind === 'attachment' || kind === 'wish');
  expect(kept.map(({ name }) => name)).toEqual([stays.on('red').id]);
  const after = await weigh(node.agent.pid, file);
  const isWaitedFor = times >= WORTH_WAITING;
  if (isWaitedFor) await sleep(PEACE_MS);
  const atPeace = isWaitedFor ? await weigh(node.agent.pid, file) : undefined;
  return { before, after, atPeace, kernel: { before: kernelBefore.length, after: (await kernel()).length } };
};

export const describeChurn = (times: number, { before, after, atPeace, kernel }: Churn): string =>
  [
    `${times} times attached and detached:`,
    ...(['descriptors', 'threads', 'heapMb', 'externalMb', 'rssMb'] as const).map(
      (what) => `  ${what} ${before[what]} before, ${after[what]} after`,
    ),
    ...(atPeace === undefined ? [] : [`  rssMb ${atPeace.rssMb} once it was left in peace`]),
    `  lines of kernel state ${kernel.before} before, ${kernel.after} after`,
  ].join('\n');
