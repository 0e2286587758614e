// K1 to K4 with a real container runtime of Kubernetes', asked as a kubelet does: by the informer alone, and by the plugin as
// it was built and installed.

import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { LocalClient } from '../../src/agent/local-client.ts';
import type { LocalAttachment } from '../../src/agent/local-messages.ts';
import { Containerd } from '../lab/containerd.ts';
import { Domain, SOON } from '../lab/domain.ts';
import type { Host } from '../lab/host.ts';
import { Cluster, type KubePod } from '../lab/kube-cluster.ts';
import type { Node } from '../lab/node.ts';
import type { Pod } from '../lab/pod.ts';
import { vl3 } from '../lab/program.ts';

const KEY = 'vl3.io/networks';
const ROOT = resolve(import.meta.dirname, '../..');

let domain: Domain;
let cluster: Cluster;
let runtime: Containerd;
let a1: Node;
let peer: Pod;

beforeAll(async () => {
  domain = await Domain.start();
  await domain.createNetwork('red', '--pool-v4', '10.60.0.0/16', '--pool-v6', 'fd00:60::/48');
  await domain.createNetwork('green', '--pool-v4', '10.70.0.0/16');
  const socket = join(domain.lab.scratch, 'containerd-a1/containerd.sock');
  const options = [...Cluster.agentOptions(domain.lab), '--container-runtime-endpoint', socket];
  a1 = await domain.addNode('a1', { options });
  runtime = await Containerd.start(domain.lab, a1.host);
  expect(runtime.socket).toBe(socket);
  cluster = await Cluster.start(domain.lab, a1);
  await a1.enrol();
  const b1 = await domain.startNode('b1');
  peer = await b1.pod('peer', 'red', 'green');
}, 180_000);

afterAll(async () => {
  await runtime?.close();
  await domain?.close();
  cluster?.close();
});

const attachments = () => new LocalClient(a1.socket).attachments();
const pod = async (name: string, networks?: string): Promise<KubePod> =>
  await cluster.run(name, {
    style: 'none',
    ...(networks === undefined ? {} : { annotations: { [KEY]: networks } }),
  });
const annotationsOf = async (of: KubePod) => (await cluster.get(of)).metadata.annotations ?? {};
/** Run by the runtime, as the kubelet has it from the API server. */
const start = async (of: KubePod): Promise<string> => {
  const id = await runtime.run(of, await annotationsOf(of));
  await cluster.phase(of, 'Running');
  return id;
};
const of = async ({ name }: KubePod): Promise<LocalAttachment[]> =>
  (await attachments()).filter(({ workload }) => workload === name);
const inside = ({ netns }: LocalAttachment): Host => domain.lab.adopt('inside', netns);
const interfaces = async (netns: string): Promise<string[]> => {
  const links: { ifname: string }[] = JSON.parse(
    await domain.lab.adopt('pod', netns).run(['ip', '-json', 'link']),
  );
  return links.map(({ ifname }) => ifname).sort();
};
const has = async (one: KubePod, ...networks: string[]): Promise<LocalAttachment[]> => {
  await vi.waitFor(async () => {
    const found = (await of(one)).filter(({ ready }) => ready);
    expect(found.map(({ network }) => network).sort(), a1.agent.output().slice(-2000)).toEqual(networks);
    const shown = (await cluster.shown(one)) ?? [];
    expect(shown.filter(({ ips }) => ips.length > 0).map(({ name }) => name)).toEqual(networks);
  }, SOON);
  return await of(one);
};

describe('by the informer alone', () => {
  test('a pod is found, attached beside its own network, edited live, and gone without a trace', async () => {
    const web = await pod('web', 'red');
    const id = await start(web);
    const [red] = await has(web, 'red');
    if (red === undefined) throw new Error('it is not attached');
    expect(await interfaces(red.netns)).toEqual(['eth0', 'lo', 'red']);
    for (const address of red.addresses) expect(await peer.reaches(address)).toBe(true);
    expect(await inside(red).run(['ip', 'route'])).toMatch(/^default via 10\.88\.0\.1 dev eth0/m);
    await cluster.annotate(web, { [KEY]: 'green' });
    await has(web, 'green');
    expect(await interfaces(red.netns)).toEqual(['eth0', 'green', 'lo']);
    await cluster.request('DELETE', `/api/v1/namespaces/team-a/pods/${web.name}?gracePeriodSeconds=0`);
    await runtime.stop(id);
    await vi.waitFor(async () => expect(await of(web)).toEqual([]), SOON);
    expect(runtime.namespaces()).toEqual([]);
  });

  test('a pod whose sandbox dies and is made anew is followed there', async () => {
    const again = await pod('again', 'red');
    const first = await start(again);
    const [before] = await has(again, 'red');
    await runtime.stop(first);
    const second = await start(again);
    await vi.waitFor(async () => {
      const [after] = await of(again);
      expect(after).toMatchObject({ network: 'red', ready: true });
      expect(after?.netns).not.toBe(before?.netns);
    }, SOON);
    await cluster.request('DELETE', `/api/v1/namespaces/team-a/pods/${again.name}?gracePeriodSeconds=0`);
    await runtime.stop(second);
    await vi.waitFor(async () => expect(await of(again)).toEqual([]), SOON);
  });
});

describe('by the plugin', () => {
  const place = () => ['--net-dir', runtime.netDirectory, '--bin-dir', runtime.binDirectory];
  const conflist = () => readFileSync(join(runtime.netDirectory, '10-cluster.conflist'), 'utf8');
  let before: string;

  beforeAll(async () => {
    before = conflist();
    const plugin = join(domain.lab.scratch, 'vl3-cni.cjs');
    const path = `${join(ROOT, 'node_modules/.bin')}:${process.env['PATH']}`;
    execFileSync('sh', [join(ROOT, 'deploy/bundle-cni.sh'), plugin], { env: { ...process.env, PATH: path } });
    await a1.host.run(vl3('cni', 'install', ...place(), '--plugin', plugin, '--socket', a1.socket));
  }, 60_000);

  test('a pod that asks has its networks when its sandbox is there; the informer takes that over', async () => {
    const early = await pod('early', 'red/net1?app=web');
    let id = '';
    // The runtime reads its configuration anew a moment after it was written.
    await vi.waitFor(async () => {
      id = await runtime.run(early, await annotationsOf(early));
      const [made] = await of(early);
      if (made === undefined) await runtime.stop(id);
      expect(made).toMatchObject({ network: 'red', ready: true, interfaceName: 'net1' });
    }, SOON);
    const [made] = await of(early);
    await cluster.phase(early, 'Running');
    const [after] = await has(early, 'red');
    expect(after).toMatchObject({ id: made?.id, addresses: made?.addresses, netns: made?.netns });
    expect(await cluster.events(early)).toEqual([]);
    await runtime.stop(id);
    expect((await of(early)).filter(({ ready }) => ready)).toEqual([]);
    await cluster.request('DELETE', `/api/v1/namespaces/team-a/pods/${early.name}?gracePeriodSeconds=0`);
    await vi.waitFor(async () => expect(await of(early)).toEqual([]), SOON);
    expect(runtime.namespaces()).toEqual([]);
  });

  test('a pod that asks for what cannot be is not run, and says why; nothing of it stays', async () => {
    const wrong = await pod('wrong', 'red, Blue');
    await expect(runtime.run(wrong, await annotationsOf(wrong))).rejects.toThrow(/character 6: .*Blue/);
    expect(await of(wrong)).toEqual([]);
    expect(runtime.namespaces()).toEqual([]);
  });

  test('without an agent, a pod that asks waits, and one that does not starts as before', async () => {
    const [asks, bare] = [await pod('asks', 'red'), await pod('bare')];
    await a1.agent.stop('SIGKILL');
    await expect(runtime.run(asks, await annotationsOf(asks))).rejects.toThrow(
      /agent on this node cannot be reached/,
    );
    const plain = await runtime.run(bare);
    await a1.start();
    const id = await start(asks);
    await has(asks, 'red');
    expect(await of(bare)).toEqual([]);
    // Its end is missed by the agent, and made good.
    await a1.agent.stop('SIGKILL');
    await runtime.stop(id);
    await runtime.stop(plain);
    await a1.start();
    await vi.waitFor(async () => expect((await of(asks)).filter(({ ready }) => ready)).toEqual([]), SOON);
    expect(runtime.namespaces()).toEqual([]);
  });

  test('uninstalled, it leaves the runtime as it was', async () => {
    await a1.host.run(vl3('cni', 'uninstall', ...place()));
    expect(conflist()).toBe(before);
    const plain = await pod('plain');
    await runtime.stop(await runtime.run(plain));
  });
});
