// K3, as far as a container runtime without a kubelet can show: the image, and the agent of the chart in a container of it.
// One file, since making the image takes longer than all else.

import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { V1DaemonSet } from '@kubernetes/client-node';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { createAead } from '../../src/datapath/aead.ts';
import { Arena } from '../../src/ffi/memory.ts';
import { VERSION } from '../../src/version.ts';
import { AgentContainer } from '../lab/agent-container.ts';
import { Domain, SOON } from '../lab/domain.ts';
import { makeImage } from '../lab/image.ts';
import { Cluster } from '../lab/kube-cluster.ts';
import type { Node } from '../lab/node.ts';
import { Stream } from '../lab/stream.ts';
import { claimsOf, ISSUER, jwksOf, sign, signingKey } from '../src/registry/cluster-fixture.ts';
import { DOMAIN, only, render } from './chart.ts';

let domain: Domain;
let image: string;
let container: AgentContainer;
let a1: Node;
let a2: Node;

/** The registry knows the cluster; what the kubelet mounts for the agent on this node of it. */
const knownCluster = async (node: string): Promise<Record<string, string>> => {
  const directory = join(domain.lab.scratch, 'projected');
  const written = (volume: string, name: string, text: string, mode: number): string => {
    mkdirSync(join(directory, volume), { recursive: true });
    writeFileSync(join(directory, volume, name), text, { mode });
    return join(directory, volume);
  };
  const key = await signingKey('RS256');
  const clusters = written('clusters', 'clusters.yaml', CLUSTERS, 0o644);
  written('clusters', 'home.json', jwksOf(key), 0o644);
  await domain.stopRegistry();
  await domain.startRegistry('--kubernetes-clusters', join(clusters, 'clusters.yaml'));
  return {
    'registry-token': written('token', 'token', await sign(key, claimsOf(node)), 0o400),
    domain: written('domain', 'domain', await domain.admin('registry', 'domain'), 0o644),
  };
};
const CLUSTERS = `clusters: [{name: home, issuer: ${ISSUER}, keys: home.json}]\n`;

beforeAll(async () => {
  domain = await Domain.start();
  image = join(domain.lab.scratch, 'image');
  makeImage(image);
  await domain.createNetwork('red', '--pool-v4', '10.60.0.0/16', '--pool-v6', 'fd00:60::/48');
  const daemonSet: V1DaemonSet = only(render(...DOMAIN, '--set', 'informer.enabled=false'), 'DaemonSet');
  const projected = await knownCluster('a1.test.example');
  container = new AgentContainer({ lab: domain.lab, node: 'a1', image, daemonSet, projected });
  a1 = await domain.addNode('a1', { program: container.program });
  a2 = await domain.startNode('a2');
  // By what is mounted, and no word on the command line.
  await a1.start();
}, 300_000);

afterAll(async () => {
  await domain?.close();
  container?.close();
});

/** A command in the image as the user it names, who may do nothing. */
const asNobody = (...command: string[]): string[] => [
  ...['env', '-i', 'PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', 'NODE_ENV=production'],
  ...['unshare', '--mount', 'sh', '-c', 'mount --rbind /dev "$0/dev" && exec chroot "$0" "$@"', image],
  ...['setpriv', '--reuid', '65532', '--regid', '65532', '--clear-groups'],
  ...['--inh-caps=-all', '--bounding-set=-all', '--', ...command],
];

test('the image runs vl3 for somebody who may do nothing, a registry too', async () => {
  expect(await domain.host.run(asNobody('vl3', '--version'))).toBe(`${VERSION}\n`);
  const place = ['--state-dir', '/var/lib/vl3/registry', '--listen', '127.0.0.1:7500'];
  const registry = domain.host.start(
    asNobody('vl3', 'registry', 'run', '--trust-domain', 'b.example', ...place),
  );
  await registry.printed(/"registry is up"/, SOON.timeout);
  expect(await registry.stop()).toBe(0);
});

test('the image makes a CA for somebody who may do nothing, and brings what it made out of a pod and into one', async () => {
  const run = (...command: string[]) => domain.host.run(asNobody(...command));
  await run('vl3', 'ca', 'init', '--trust-domain', 'b.example');
  const made = [
    '--trust-domain',
    'b.example',
    '--signer',
    'ca.b.example:7444',
    '--file',
    '/tmp/registry.json',
  ];
  await run('vl3', 'ca', 'registry', ...made);
  const credential = await run('cat', '/tmp/registry.json');
  expect(JSON.parse(credential)).toMatchObject({ kind: 'registry', trustDomain: 'b.example' });
  // As the chart's notes and its init container do it.
  const bring = [
    'mkdir -p /var/lib/vl3/signer',
    'cp -f /tmp/registry.json /var/lib/vl3/signer/registry.json',
    'cmp -s /tmp/registry.json /var/lib/vl3/signer/registry.json',
    'rm /tmp/registry.json',
    'cat /var/lib/vl3/signer/registry.json',
  ].join(' && ');
  expect(await run('sh', '-euc', bring)).toBe(credential);
});

test('the image seals by what the machine seals by that it is made on', async () => {
  const tier = `
    const { Arena } = await import('/opt/vl3/src/ffi/memory.js');
    const { createAead } = await import('/opt/vl3/src/datapath/aead.js');
    console.log(createAead(new Arena(1 << 20)).tier);`;
  const printed = await domain.host.run(asNobody('node', '--input-type=module', '--eval', tier));
  expect(printed).toBe(`${createAead(new Arena(1 << 20)).tier}\n`);
});

test('what the image holds is told by package', () => {
  const status = readFileSync(join(image, 'var/lib/dpkg/status.d/nftables'), 'utf8');
  expect(status).toMatch(/^Package: nftables\n(.+\n)*Version: \d/);
});

test('an agent in a container has enrolled by its pod alone, as the node that its token says', async () => {
  const nodes = await domain.adminJson<{ name: string; kubernetesNode: string }[]>('node', 'list');
  expect(nodes).toContainEqual(
    expect.objectContaining({
      name: expect.stringMatching(/^home-a1-[0-9a-f]{8}$/),
      kubernetesNode: 'a1.test.example',
    }),
  );
});

test('an agent in a container keeps six capabilities of all that it is given', () => {
  const status = readFileSync(`/proc/${container.pid}/status`, 'utf8');
  // chown 0, net_bind_service 10, net_admin 12, net_raw 13, sys_ptrace 19, sys_admin 21
  const kept = [0n, 10n, 12n, 13n, 19n, 21n].reduce((sum, bit) => sum | (1n << bit), 0n);
  expect(BigInt(`0x${/^CapEff:\s*(\S+)/m.exec(status)?.[1]}`)).toBe(kept);
  expect(BigInt(`0x${/^CapBnd:\s*(\S+)/m.exec(status)?.[1]}`)).toBe(kept);
  expect(status).toMatch(/^NoNewPrivs:\s*1$/m);
});

test('its networks are pinned on the node: a TCP stream lives through the death of the whole container', async () => {
  const client = await a1.pod('client', 'red');
  const web = await a2.pod('web', 'red');
  await vi.waitFor(async () => expect(await client.reaches(web.v4('red'))).toBe(true), SOON);
  const stream = await Stream.open(client, web, web.v4('red'));
  try {
    const before = container.pid;
    await container.kill();
    expect(await a1.router('red').run(['ip', '-o', 'link'])).toMatch(/: vl3: /);
    await a1.start();
    expect(container.pid).not.toBe(before);
    const { bytes } = stream.progress;
    await vi.waitFor(() => expect(stream.progress.bytes).toBeGreaterThan(bytes + 3_000_000), SOON);
    expect(stream.progress.wrong).toBe(0);
    console.log(
      `container killed and started anew under a TCP stream: longest silence ${stream.progress.longestSilenceMs} ms`,
    );
  } finally {
    await stream.close();
  }
});

test('names are answered from the container, and status asks through the tunnel', async () => {
  const client = await a1.pod('other', 'red');
  const { networks } = await a1.status();
  const [gateway] = networks.find(({ name }) => name === 'red')?.gateways ?? [];
  await vi.waitFor(async () => {
    const answer = await client.host.run(['dig', '+short', `@${gateway}`, 'other.red.vl3', 'A']);
    expect(answer.trim()).toBe(client.v4('red'));
  }, SOON);
});

test('an agent that is told to end leaves networks in their place, and clean takes them', async () => {
  await a1.agent.stop('SIGTERM', 30_000);
  expect(await a1.router('red').run(['ip', '-o', 'link'])).toMatch(/: vl3: /);
  expect(await a1.clean()).not.toEqual([]);
});

// K1, K3: the chart's default, by the pod's service account. Kubernetes' client is for who names a kubeconfig: here it is not
// in the image.
describe('with its informer', () => {
  const KEY = 'vl3.io/networks';
  let own: Domain;
  let cluster: Cluster;
  let informer: AgentContainer;
  let node: Node;

  beforeAll(async () => {
    own = await Domain.start();
    const { lab } = own;
    const without = join(lab.scratch, 'image');
    await lab.run(['cp', '--archive', '--link', image, without]);
    rmSync(join(without, 'opt/vl3/node_modules/@kubernetes'), { recursive: true });
    await own.createNetwork('red', '--pool-v4', '10.60.0.0/16');
    const values = [...DOMAIN, '--set', 'agent.enrolment=joinTokens'];
    const daemonSet: V1DaemonSet = only(render(...values), 'DaemonSet');
    const directory = join(lab.scratch, 'kube/serviceaccount');
    const account = { directory, host: '127.0.0.1', port: 6443 };
    informer = new AgentContainer({ lab, node: 'b1', image: without, daemonSet, account });
    node = await own.addNode('b1', { program: informer.program, options: Cluster.nodeOptions(lab) });
    cluster = await Cluster.start(lab, node);
    expect(cluster.serviceAccount()).toEqual(account);
    await node.start('--token', await own.token('--node', 'b1'));
  }, 300_000);

  afterAll(async () => {
    await own?.close();
    cluster?.close();
    informer?.close();
  });

  test('attaches a pod that asks, follows its edits, and shows what it has', async () => {
    const web = await cluster.run('web', { annotations: { [KEY]: 'red' } });
    const shown = async () => (await cluster.shown(web))?.map(({ interface: name }) => name);
    const said = () => node.agent.output().slice(-2000);
    await vi.waitFor(async () => expect(await shown(), said()).toEqual(['red']), SOON);
    expect(await web.pod.host.run(['ip', '-o', 'link'])).toMatch(/: red@/);
    await cluster.annotate(web, { [KEY]: 'red/net1' });
    await vi.waitFor(async () => expect(await shown()).toEqual(['net1']), SOON);
    await cluster.annotate(web, { [KEY]: null });
    await vi.waitFor(async () => expect(await shown()).toBeUndefined(), SOON);
    expect(await web.pod.host.run(['ip', '-o', 'link'])).not.toMatch(/net1/);
    const rss = /^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${informer.pid}/status`, 'utf8'))?.[1];
    console.log(`the agent with its informer: ${Math.round(Number(rss) / 1000)} MB resident`);
  });
});
