// What an operator feels: how long attaching takes, how soon a started agent carries its first packet, what a pod notices
// of an agent that is killed, and what registry and agent weigh. Whole-process figures over the command line and the
// agent's socket; absolute, so compare only on one machine.

import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { LocalClient } from '../../src/agent/local-client.ts';
import { Domain } from '../lab/domain.ts';
import type { Host } from '../lab/host.ts';
import type { Node } from '../lab/node.ts';
import { ping } from '../lab/ping.ts';
import { Pod } from '../lab/pod.ts';
import { quantile } from '../lab/spread.ts';

const PODS = 50;
const INTERVAL_MS = 20;

interface Spread {
  readonly p50: number;
  readonly p99: number;
  readonly max: number;
}

const spread = (values: readonly number[]): Spread => {
  const at = (share: number): number => Math.round(quantile(values, share));
  return { p50: at(0.5), p99: at(0.99), max: at(1) };
};

/** Milliseconds each of 50 attaches took, all asked for at once. */
const attachAtOnce = async (node: Node): Promise<Spread> => {
  const pods: Pod[] = [];
  for (let i = 0; i < PODS; i++) pods.push(await Pod.create(node.domain.lab, `p${i}`, node));
  const client = new LocalClient(node.socket);
  const durations = await Promise.all(
    pods.map(async (pod) => {
      const start = performance.now();
      await client.attach({ network: 'red', netns: pod.host.netns, workload: pod.name });
      return performance.now() - start;
    }),
  );
  for (const pod of pods) await client.detach({ network: 'red', netns: pod.host.netns });
  return spread(durations);
};

/** Milliseconds from starting the process to the first answer from a pod of a peer there was a session with. */
const startToFirstPacket = async (node: Node, from: Pod, address: string): Promise<number> => {
  await node.agent.stop('SIGTERM');
  const start = performance.now();
  node.launch();
  for (;;) {
    const { received } = await ping(from.host, address, { count: 1, wait: 0.1 });
    if (received > 0) return performance.now() - start;
    if (performance.now() - start > 60_000) throw new Error(`no packet in a minute:\n${node.agent.output()}`);
  }
};

/** The longest silence, in ms, that a ping every 20 ms notices while the agent is killed and started again at once. */
const gapOfKill = async (node: Node, from: Host, address: string): Promise<number> => {
  const pings = from.start(['ping', '-n', '-D', '-i', `${INTERVAL_MS / 1000}`, address]);
  await sleep(1000);
  await node.agent.stop('SIGKILL');
  node.launch();
  await node.agent.printed(/"agent is up"/, 60_000);
  await sleep(8000);
  await pings.stop('SIGINT');
  const answered = [...pings.output().matchAll(/icmp_seq=(\d+)/g)].map((match) => Number(match[1]));
  const gaps = answered.slice(1).map((sequence, i) => sequence - (answered[i] ?? 0));
  return Math.max(...gaps) * INTERVAL_MS;
};

/** Resident and anonymous megabytes of a process. */
const memoryOf = (pid: number): { rss: number; anonymous: number } => {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  const megabytes = (field: string): number =>
    Math.round(Number(new RegExp(`^${field}:\\s+(\\d+) kB`, 'm').exec(status)?.[1] ?? 0) / 1024);
  return { rss: megabytes('VmRSS'), anonymous: megabytes('RssAnon') };
};

/** Prints a line a figure, and all of them as JSON on the last line. */
export const benchLifecycle = async (repetitions: number): Promise<void> => {
  await using domain = await Domain.start();
  await domain.createNetwork('red', '--pool-v4', '10.60.0.0/16', '--pool-v6', 'fd00:60::/48');
  const here = await domain.startNode('n1');
  const there = await domain.startNode('n2');
  const from = await here.pod('from', 'red');
  const to = await there.pod('to', 'red');
  const address = to.v4('red');
  while ((await ping(from.host, address, { count: 1, wait: 0.5 })).received === 0) await sleep(100);

  const attach = await attachAtOnce(here);
  console.log(`attach, ${PODS} at once: p50 ${attach.p50} ms, p99 ${attach.p99} ms`);
  const firstPacket: number[] = [];
  const gap: number[] = [];
  for (let i = 0; i < repetitions; i++) {
    // The learned endpoint and the session are written down every two seconds.
    await sleep(3000);
    firstPacket.push(await startToFirstPacket(here, from, address));
    await sleep(3000);
    gap.push(await gapOfKill(here, from.host, address));
  }
  const first = spread(firstPacket);
  const silence = spread(gap);
  console.log(`agent start to first packet: p50 ${first.p50} ms, max ${first.max} ms of ${repetitions}`);
  console.log(`gap of kill and restart:     p50 ${silence.p50} ms, max ${silence.max} ms of ${repetitions}`);
  const memory = { agent: memoryOf(here.agent.pid), registry: memoryOf(domain.registryPid) };
  console.log(`memory, MB: agent ${memory.agent.rss} resident, registry ${memory.registry.rss} resident`);
  console.log(JSON.stringify({ attach, firstPacket: first, gap: silence, memory }));
};
