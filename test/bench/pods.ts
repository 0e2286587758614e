// What a full node of a cluster costs its agent, as the chart runs it: memory and processor time with so many pods that ask by
// annotation, and when all of them are moved to another network by their namespace's. And how long it takes from the edit of one
// pod's annotation to its first packet that another node's pod answers, before there are others.

import { readFileSync } from 'node:fs';
import { loadavg } from 'node:os';
import { join } from 'node:path';
import type { V1DaemonSet } from '@kubernetes/client-node';
import { LocalClient } from '../../src/agent/local-client.ts';
import { DOMAIN, only, render } from '../deploy/chart.ts';
import { AgentContainer } from '../lab/agent-container.ts';
import { Domain } from '../lab/domain.ts';
import { eventually } from '../lab/eventually.ts';
import { makeImage } from '../lab/image.ts';
import { Cluster } from '../lab/kube-cluster.ts';
import type { Node } from '../lab/node.ts';
import type { Pod } from '../lab/pod.ts';
import { quantile } from '../lab/spread.ts';

const KEY = 'vl3.io/networks';
const NAMESPACE = 'full';
const PATIENCE = { timeout: 300_000, interval: 100 };
const TICKS_PER_SECOND = 100;
const EDITS = 20;

interface Row {
  readonly state: string;
  readonly seconds: number;
  readonly 'CPU s': number;
  readonly 'resident MB': number;
  readonly 'peak MB': number;
}

const memory = (pid: number, field: string): number =>
  Math.round(
    Number(
      new RegExp(`^${field}:\\s+(\\d+) kB`, 'm').exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1],
    ) / 1000,
  );

const cpuSeconds = (pid: number): number => {
  const fields = readFileSync(`/proc/${pid}/stat`, 'latin1').split(') ')[1]?.split(' ') ?? [];
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
};

export const benchPods = async (count: number): Promise<void> => {
  await using domain = await Domain.start();
  const image = join(domain.lab.scratch, 'image');
  makeImage(image);
  await domain.createNetwork('red', '--pool-v4', '10.60.0.0/16');
  await domain.createNetwork('green', '--pool-v4', '10.70.0.0/16');
  const daemonSet: V1DaemonSet = only(render(...DOMAIN, '--set', 'agent.enrolment=joinTokens'), 'DaemonSet');
  const account = {
    directory: join(domain.lab.scratch, 'kube/serviceaccount'),
    host: '127.0.0.1',
    port: 6443,
  };
  const container = new AgentContainer({ lab: domain.lab, node: 'a1', image, daemonSet, account });
  const a1 = await domain.addNode('a1', {
    program: container.program,
    options: Cluster.nodeOptions(domain.lab),
  });
  const cluster = await Cluster.start(domain.lab, a1);
  try {
    cluster.serviceAccount();
    await a1.start('--token', await domain.token('--node', 'a1'));
    const b1 = await domain.startNode('b1');
    await measureEdits(cluster, await b1.pod('peer', 'red'));
    console.table(await measure(cluster, a1, () => container.pid, count));
    console.log(`${count} pods; load ${loadavg()[0]?.toFixed(1)}; seconds hold the lab's making of pods`);
  } finally {
    cluster.close();
    container.close();
  }
};

const measureEdits = async (cluster: Cluster, peer: Pod): Promise<void> => {
  const edited = await cluster.run('edited', {});
  const ping = `ping -c 1 -W 0.2 ${peer.v4('red')} >/dev/null 2>&1`;
  const durations: number[] = [];
  // The first has its node join the network, too.
  for (let edit = 0; edit <= EDITS; edit++) {
    const began = performance.now();
    const answered = edited.pod.host.run(['sh', '-c', `until ${ping}; do sleep 0.01; done`]);
    await cluster.annotate(edited, { [KEY]: 'red' });
    await answered;
    durations.push(Math.round(performance.now() - began));
    await cluster.annotate(edited, { [KEY]: null });
    await edited.pod.host.run(['sh', '-c', 'while ip link show red >/dev/null 2>&1; do sleep 0.05; done']);
  }
  const [first, ...others] = durations;
  console.log(
    `from an edit to the first answered packet: ${first} ms where the node has to join the network, else ` +
      `p50 ${quantile(others, 0.5)} ms, p99 ${quantile(others, 0.99)} ms of ${EDITS}; load ${loadavg()[0]?.toFixed(1)}`,
  );
  await cluster.delete(edited);
};

const measure = async (cluster: Cluster, a1: Node, pid: () => number, count: number): Promise<Row[]> => {
  const rows: Row[] = [];
  const client = new LocalClient(a1.socket);
  const timed = async (state: string, work: () => Promise<void>): Promise<void> => {
    const [began, cpu] = [performance.now(), cpuSeconds(pid())];
    await work();
    const seconds = Math.round(performance.now() - began) / 1000;
    const used = Math.round((cpuSeconds(pid()) - cpu) * 100) / 100;
    const [resident, peak] = [memory(pid(), 'VmRSS'), memory(pid(), 'VmHWM')];
    rows.push({ state, seconds, 'CPU s': used, 'resident MB': resident, 'peak MB': peak });
  };
  const on = (network: string, pods: number) =>
    eventually(async () => {
      const ready = (await client.attachments()).filter((one) => one.network === network && one.ready);
      if (ready.length !== pods) throw new Error(`${ready.length} of ${pods} pods are on ${network}`);
    }, PATIENCE);
  await timed('no pods', async () => await new Promise((resolve) => setTimeout(resolve, 10_000)));
  await cluster.createNamespace(NAMESPACE, { [KEY]: 'red' });
  await timed(`${count} pods attached`, async () => {
    for (let pod = 0; pod < count; pod++) await cluster.run(`pod-${pod}`, { namespace: NAMESPACE });
    await on('red', count);
  });
  await timed('a minute later', async () => await new Promise((resolve) => setTimeout(resolve, 60_000)));
  await timed('all moved to another network', async () => {
    await cluster.annotateNamespace(NAMESPACE, { [KEY]: 'green' });
    await on('green', count);
    await on('red', 0);
  });
  await timed('all taken off', async () => {
    await cluster.annotateNamespace(NAMESPACE, { [KEY]: '' });
    await on('green', 0);
  });
  await timed('a minute after that', async () => await new Promise((resolve) => setTimeout(resolve, 60_000)));
  return rows;
};
