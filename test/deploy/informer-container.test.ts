// K1, K3: the agent of the chart as it is, in a container of the image: its informer by its service account, without Kubernetes'
// client. As far as a container runtime without a kubelet can show.

import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { V1DaemonSet } from '@kubernetes/client-node';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { AgentContainer } from '../lab/agent-container.ts';
import { Domain, SOON } from '../lab/domain.ts';
import { makeImage } from '../lab/image.ts';
import { Cluster } from '../lab/kube-cluster.ts';
import type { Node } from '../lab/node.ts';
import { DOMAIN, only, render } from './chart.ts';

const KEY = 'vl3.io/networks';

let domain: Domain;
let cluster: Cluster;
let container: AgentContainer;
let a1: Node;

beforeAll(async () => {
  domain = await Domain.start();
  const image = join(domain.lab.scratch, 'image');
  makeImage(image);
  // It is for who names a kubeconfig.
  rmSync(join(image, 'opt/vl3/node_modules/@kubernetes'), { recursive: true });
  await domain.createNetwork('red', '--pool-v4', '10.60.0.0/16');
  const daemonSet: V1DaemonSet = only(render(...DOMAIN, '--set', 'agent.enrolment=joinTokens'), 'DaemonSet');
  const account = {
    directory: join(domain.lab.scratch, 'kube/serviceaccount'),
    host: '127.0.0.1',
    port: 6443,
  };
  container = new AgentContainer({ lab: domain.lab, node: 'a1', image, daemonSet, account });
  a1 = await domain.addNode('a1', { program: container.program, options: Cluster.nodeOptions(domain.lab) });
  cluster = await Cluster.start(domain.lab, a1);
  expect(cluster.serviceAccount()).toEqual(account);
  await a1.start('--token', await domain.token('--node', 'a1'));
}, 300_000);

afterAll(async () => {
  await domain?.close();
  cluster?.close();
  container?.close();
});

test('attaches a pod that asks, follows its edits, and shows what it has', async () => {
  const web = await cluster.run('web', { annotations: { [KEY]: 'red' } });
  const shown = async () => (await cluster.shown(web))?.map(({ interface: name }) => name);
  await vi.waitFor(async () => expect(await shown(), a1.agent.output().slice(-2000)).toEqual(['red']), SOON);
  expect(await web.pod.host.run(['ip', '-o', 'link'])).toMatch(/: red@/);
  await cluster.annotate(web, { [KEY]: 'red/net1' });
  await vi.waitFor(async () => expect(await shown()).toEqual(['net1']), SOON);
  await cluster.annotate(web, { [KEY]: null });
  await vi.waitFor(async () => expect(await shown()).toBeUndefined(), SOON);
  expect(await web.pod.host.run(['ip', '-o', 'link'])).not.toMatch(/net1/);
  const rss = /^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${container.pid}/status`, 'utf8'))?.[1];
  console.log(`the agent with its informer: ${Math.round(Number(rss) / 1000)} MB resident`);
});
