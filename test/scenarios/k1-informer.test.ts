// K1, K3, K4: pods of a cluster's node on the networks that they ask for, by the informer alone. With KUBE_APISERVER=/path
// the same runs against Kubernetes' own API server.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { defaultsOf } from '../../native-free/cni/namespace-defaults.ts';
import { readWatchEvent } from '../../native-free/kube/watch-event.ts';
import { LocalClient } from '../../src/agent/local-client.ts';
import type { LocalAttachment } from '../../src/agent/local-messages.ts';
import { cni } from '../lab/cni.ts';
import { Domain, SOON } from '../lab/domain.ts';
import { Cluster, type KubePod } from '../lab/kube-cluster.ts';
import type { Node } from '../lab/node.ts';
import { Pod } from '../lab/pod.ts';
import { Stream } from '../lab/stream.ts';

const KEY = 'vl3.io/networks';
const METRICS = '127.0.0.1:9643';
const asks = (text: string) => ({ annotations: { [KEY]: text } });

let domain: Domain;
let cluster: Cluster;
let a1: Node;
let peer: Pod;
/** Made before there was any agent. */
let early: KubePod;
let bystander: Pod;

beforeAll(async () => {
  domain = await Domain.start();
  await domain.createNetwork('red', '--pool-v4', '10.60.0.0/16', '--pool-v6', 'fd00:60::/48');
  await domain.createNetwork('green', '--pool-v4', '10.70.0.0/16');
  const options = [...Cluster.agentOptions(domain.lab), '--metrics-listen', METRICS];
  a1 = await domain.addNode('a1', { options });
  cluster = await Cluster.start(domain.lab, a1);
  console.log(`the API server is ${await cluster.version()}`);
  early = await cluster.run('early', asks('red'));
  await a1.enrol();
  const b1 = await domain.startNode('b1');
  peer = await b1.pod('peer', 'red', 'green');
  bystander = await a1.pod('bystander', 'red');
}, 180_000);

afterAll(async () => {
  await domain?.close();
  cluster?.close();
});

const attachments = () => new LocalClient(a1.socket).attachments();
const of = async ({ pod }: Pick<KubePod, 'pod'>): Promise<LocalAttachment[]> =>
  (await attachments())
    .filter(({ netns }) => netns === pod.host.netns)
    .sort((a, b) => (a.network < b.network ? -1 : 1));
const interfacesOf = async ({ pod }: Pick<KubePod, 'pod'>): Promise<string[]> => {
  const links: { ifname: string }[] = JSON.parse(await pod.host.run(['ip', '-json', 'link']));
  return links.flatMap(({ ifname }) => (ifname === 'lo' ? [] : [ifname])).sort();
};
/** Once it has these interfaces and no others, and shows its networks. */
const has = async (pod: KubePod, ...interfaces: string[]): Promise<void> => {
  await vi.waitFor(async () => {
    expect(await interfacesOf(pod), a1.agent.output().slice(-2000)).toEqual(interfaces);
    const shown = (await cluster.shown(pod)) ?? [];
    expect(
      shown
        .filter(({ ips }) => ips.length > 0)
        .map((one) => one.interface)
        .sort(),
    ).toEqual(interfaces);
  }, SOON);
};

describe('K1: a pod is on the networks that it asks for', () => {
  test('also one that was there before the agent, and shows them as kubectl describe has it', async () => {
    await has(early, 'red');
    const [{ addresses } = { addresses: [] }] = await of(early);
    expect(await cluster.shown(early)).toEqual([
      {
        name: 'red',
        interface: 'red',
        ips: addresses,
        mac: expect.stringMatching(/^[0-9a-f:]{17}$/),
        mtu: expect.any(Number),
        default: false,
        dns: {},
      },
    ]);
    expect(await early.pod.reaches(peer.v4('red'))).toBe(true);
    for (const address of addresses) expect(await peer.reaches(address)).toBe(true);
  });

  test("by vl3's annotation, and by Network Service Mesh's", async () => {
    const both = await cluster.run('both', { ...asks('red, green/net1?app=web'), style: 'cri-o' });
    const nsm = await cluster.run('nsm', {
      annotations: { 'networkservicemesh.io': 'kernel://red/nsm-1?app=web,kernel://green/nsm-2' },
    });
    await has(both, 'net1', 'red');
    await has(nsm, 'nsm-1', 'nsm-2');
    expect(await both.pod.reaches(peer.v4('green'))).toBe(true);
    expect(await of(both)).toMatchObject([
      { network: 'green', workload: 'both', labels: { app: 'web', 'io.kubernetes.pod.namespace': 'team-a' } },
      { network: 'red', workload: 'both' },
    ]);
  });

  test("by its namespace's annotation; its own beats that, also when it is empty", async () => {
    await cluster.createNamespace('team-b', { [KEY]: 'green' });
    const plain = await cluster.run('plain', { namespace: 'team-b' });
    const own = await cluster.run('own', { namespace: 'team-b', ...asks('red') });
    const none = await cluster.run('none', { namespace: 'team-b', ...asks('') });
    await has(plain, 'green');
    await has(own, 'red');
    expect(await interfacesOf(none)).toEqual([]);
    expect(await cluster.shown(none)).toBeUndefined();
    // The CNI plugin reads it there.
    const text = () => readFileSync(join(a1.runDir, 'namespaces.json'), 'utf8');
    expect(defaultsOf(text(), 'team-b')).toEqual({ [KEY]: 'green' });
    expect(defaultsOf(text(), 'team-a')).toEqual({});

    await cluster.annotateNamespace('team-b', { [KEY]: 'red/net7' });
    await has(plain, 'net7');
    expect(defaultsOf(text(), 'team-b')).toEqual({ [KEY]: 'red/net7' });
    expect(await interfacesOf(own)).toEqual(['red']);
  });

  test('a wrong annotation changes nothing and is an event with the place; so is what is not federated', async () => {
    const wrong = await cluster.run('wrong', asks('red, Blue'));
    await vi.waitFor(
      async () =>
        expect(await cluster.events(wrong)).toEqual([
          expect.stringMatching(/^InvalidAnnotation: vl3\.io\/networks, character 6: "Blue" is not the name/),
        ]),
      SOON,
    );
    expect(await interfacesOf(wrong)).toEqual([]);
    await cluster.annotate(wrong, { [KEY]: 'red, green@partner.example' });
    await has(wrong, 'red');
    expect(await cluster.shown(wrong)).toMatchObject([
      { name: 'green@partner.example', ips: [], pending: expect.stringMatching(/is not federated/) },
      { name: 'red' },
    ]);
    expect(await cluster.events(wrong)).toEqual(
      expect.arrayContaining([expect.stringMatching(/^NotFederated: .*character 12: "partner\.example"/)]),
    );
    // Broken while it runs: what it has stays.
    await cluster.annotate(wrong, { [KEY]: 'red,' });
    await vi.waitFor(
      async () =>
        expect(await cluster.events(wrong)).toEqual(
          expect.arrayContaining([expect.stringMatching(/^InvalidAnnotation: .*character 5: /)]),
        ),
      SOON,
    );
    expect(await interfacesOf(wrong)).toEqual(['red']);
  });

  test("one on its node's network is left out, with an event", async () => {
    const host = await cluster.run('host', { ...asks('red'), hostNetwork: true });
    await vi.waitFor(
      async () =>
        expect(await cluster.events(host)).toEqual([expect.stringMatching(/^HostNetwork: .*left out/)]),
      SOON,
    );
    expect(await of(host)).toEqual([]);
  });

  test('a network that does not exist yet is shown with the reason, holds up no other, and comes later', async () => {
    const pod = await cluster.run('waits', asks('red, later'));
    await has(pod, 'red');
    expect(await cluster.shown(pod)).toMatchObject([
      { name: 'later', ips: [], pending: expect.stringMatching(/no network "later"/) },
      { name: 'red' },
    ]);
    await domain.createNetwork('later', '--pool-v4', '10.90.0.0/16');
    await has(pod, 'later', 'red');
  });

  test('one whose sandbox comes late, and is made anew, is followed there', async () => {
    const pod = await cluster.run('slow', { ...asks('red'), style: 'none' });
    cluster.cri.run(pod, pod.pod.host.netns);
    await cluster.phase(pod, 'Running');
    await has(pod, 'red');
    const second = { ...pod, pod: await Pod.create(domain.lab, 'slow-2', a1) };
    cluster.cri.run(pod, second.pod.host.netns, 'cri-o');
    await has(second, 'red');
    await vi.waitFor(async () => expect(await interfacesOf(pod)).toEqual([]), SOON);
  });
});

describe('K3: an annotation that is edited', () => {
  test('attaches and detaches live, and leaves its other connections alone', async () => {
    // A fixed address is one of those that this node leases.
    const fixed = (await of(early))[0]?.addresses[0]?.replace(/\d+$/, '200') ?? '';
    const pod = await cluster.run('edited', asks(`red?address=${fixed}`));
    await has(pod, 'red');
    const stream = await Stream.open(pod.pod, peer, peer.v4('red'));
    const [before] = await of(pod);

    const again = `until ping -c 1 -W 0.2 ${peer.v4('green')} >/dev/null 2>&1; do sleep 0.02; done`;
    const edited = performance.now();
    const answered = pod.pod.host.run(['sh', '-c', again]).then(() => performance.now() - edited);
    await cluster.annotate(pod, { [KEY]: 'red, green' });
    await vi.waitFor(
      async () => expect(await of(pod)).toMatchObject([{ network: 'green', ready: true }, {}]),
      {
        ...SOON,
        interval: 20,
      },
    );
    const attached = Math.round(performance.now() - edited);
    const pinged = Math.round(await answered);
    console.log(`from an edit to the attachment ${attached} ms, to the first answered ping ${pinged} ms`);
    await has(pod, 'green', 'red');
    expect(await pod.pod.reaches(peer.v4('green'))).toBe(true);
    await cluster.annotate(pod, { [KEY]: 'red, green/net1' });
    await has(pod, 'net1', 'red');
    await cluster.annotate(pod, { [KEY]: 'red' });
    await has(pod, 'red');
    expect(await of(pod)).toEqual([before]);
    const carried = stream.progress.bytes;
    await vi.waitFor(() => expect(stream.progress.bytes).toBeGreaterThan(carried), SOON);
    expect(stream.progress.wrong).toBe(0);
    await stream.close();

    await cluster.annotate(pod, { [KEY]: null });
    await vi.waitFor(async () => expect(await cluster.shown(pod)).toBeUndefined(), SOON);
    expect(await interfacesOf(pod)).toEqual([]);
  });

  test('labels of the pod are labels of its attachments, and follow: the interface stays as it is', async () => {
    const pod = await cluster.run('labelled', {
      ...asks('red?tier=front'),
      labels: { app: 'web', tier: 'back' },
    });
    await has(pod, 'red');
    const own = { 'io.kubernetes.pod.namespace': 'team-a', tier: 'front' };
    const [before] = await of(pod);
    expect(before?.labels).toEqual({ ...own, app: 'web' });
    await cluster.label(pod, { app: null, version: '2' });
    await vi.waitFor(
      async () => expect(await of(pod)).toEqual([{ ...before, labels: { ...own, version: '2' } }]),
      SOON,
    );
    await vi.waitFor(async () => {
      const all = await domain.adminJson<{ workload: string; labels: object }[]>('attachment', 'list');
      expect(all.find(({ workload }) => workload === 'labelled')?.labels).toEqual({ ...own, version: '2' });
    }, SOON);
  });

  test('what the CNI plugin attached is taken over, not made twice, and goes by an edit', async () => {
    const pod = await cluster.run('plugged', { ...asks('red'), labels: { app: 'x' }, style: 'none' });
    const call = {
      container: 'c'.repeat(16),
      netns: pod.pod.host.netns,
      ...asks('red'),
      pod: { namespace: 'team-a', name: 'plugged', uid: pod.uid },
    };
    expect(await cni(a1, 'ADD', call)).toMatchObject({ code: 0 });
    const [made] = await of(pod);
    cluster.cri.run(pod, pod.pod.host.netns);
    await cluster.phase(pod, 'Running');
    await has(pod, 'red');
    const labels = { app: 'x', 'io.kubernetes.pod.namespace': 'team-a' };
    await vi.waitFor(async () => expect(await of(pod)).toEqual([{ ...made, labels }]), SOON);
    expect(await cni(a1, 'ADD', call)).toMatchObject({ code: 0 });
    expect(await of(pod)).toEqual([{ ...made, labels }]);
    await cluster.annotate(pod, { [KEY]: 'green' });
    await has(pod, 'green');
    expect(await cni(a1, 'DEL', { container: call.container })).toMatchObject({ code: 0 });
    expect(await interfacesOf(pod)).toEqual(['green']);
  });
});

describe('a pod that ends', () => {
  test.each(['Succeeded', 'Failed'])('as %s is detached though its sandbox is there still', async (phase) => {
    const pod = await cluster.run(`job-${phase.toLowerCase()}`, asks('red'));
    await has(pod, 'red');
    await cluster.phase(pod, phase);
    await vi.waitFor(async () => expect(await of(pod)).toEqual([]), SOON);
    expect(await interfacesOf(pod)).toEqual([]);
  });

  test('by being deleted is detached, once its sandbox is gone too', async () => {
    const pod = await cluster.run('deleted', asks('red'));
    await has(pod, 'red');
    await cluster.delete(pod);
    await vi.waitFor(async () => expect(await of(pod)).toEqual([]), SOON);
  });
});

describe('K4: a pod without an annotation', () => {
  test('is left exactly as it is, and so is what somebody attached by hand', async () => {
    const plain = await cluster.run('bare');
    const { metadata } = await cluster.get(plain);
    const marker = await cluster.run('marker', asks('red'));
    await has(marker, 'red');
    expect(await interfacesOf(plain)).toEqual([]);
    expect((await cluster.get(plain)).metadata.annotations).toEqual(metadata.annotations);
    expect(await cluster.events(plain)).toEqual([]);
    expect(await bystander.reaches(peer.v4('red'))).toBe(true);
  });
});

describe('an API server that is away', () => {
  test('takes nothing from anybody, says so, and what was missed is made up for', async () => {
    const stays = await cluster.run('stays', asks('red'));
    const goes = await cluster.run('goes', asks('red'));
    await has(stays, 'red');
    await has(goes, 'red');
    expect((await a1.status()).kubernetes).toMatchObject({ inSync: true });
    await cluster.stopApi();
    await vi.waitFor(async () => {
      const { kubernetes, problems } = await a1.status();
      expect(kubernetes).toMatchObject({ inSync: false });
      expect(problems.join('\n')).toMatch(
        /Kubernetes: the API server cannot be asked to (list|watch) (pods|namespaces)/,
      );
    }, SOON);
    const metrics = await a1.host.run(['curl', '-sS', `http://${METRICS}/metrics`]);
    expect(metrics).toMatch(/^vl3_agent_kubernetes_in_sync\{resource="pods"\} [01]$/m);
    expect(metrics).toMatch(/^vl3_agent_kubernetes_pods\{networks="asked"\} \d\d$/m);
    const shown = await a1.tryVl3('status', '--no-probe');
    expect(shown.stdout).toMatch(/^kubernetes: not in sync, pods \d+, asking for networks \d+$/m);
    expect(shown.code).toBe(4);

    // An agent that starts meanwhile knows nothing of any pod.
    await a1.agent.stop('SIGKILL');
    await a1.start();
    expect(await of(stays)).toMatchObject([{ network: 'red', ready: true }]);
    expect(await stays.pod.reaches(peer.v4('red'))).toBe(true);

    await cluster.startApi();
    await cluster.annotate(stays, { [KEY]: 'red, green' });
    await cluster.delete(goes);
    await has(stays, 'green', 'red');
    await vi.waitFor(async () => expect(await of(goes)).toEqual([]), SOON);
    await vi.waitFor(async () => {
      const { kubernetes, problems } = await a1.status();
      expect(kubernetes).toMatchObject({ inSync: true });
      expect(problems.filter((one) => one.startsWith('Kubernetes'))).toEqual([]);
    }, SOON);
  });

  test.skipIf(Cluster.isReal)('that has forgotten what was seen last is listed anew', async () => {
    const pod = await cluster.run('forgotten', asks('red'));
    await has(pod, 'red');
    await cluster.request('POST', '/test/cut');
    await cluster.annotate(pod, { [KEY]: 'green' });
    await cluster.request('POST', '/test/compact');
    await has(pod, 'green');
  });

  test('answers a watch from too long ago as it is read', async () => {
    const { type, object } = await cluster.watchFrom(1);
    expect(readWatchEvent(type, object)).toEqual({ kind: 'gone' });
  });
});

describe('an agent that cannot know its cluster', () => {
  test('ends with a sentence, and its token is good still', async () => {
    const c1 = await domain.addNode('c1');
    const token = await domain.token('--node', 'c1');
    for (const [options, sentence] of [
      [['--kubernetes', 'on'], /no service account of a cluster here/],
      [
        ['--kubernetes', 'on', '--kubeconfig', '/nonexistent'],
        /\/nonexistent cannot be used .*check --kubeconfig/,
      ],
    ] as const) {
      const agent = c1.launch('--name', 'c1', '--token', token, ...options);
      await vi.waitFor(() => expect(agent.running).toBe(false), SOON);
      expect(agent.output()).toMatch(sentence);
      expect(await agent.stop()).not.toBe(0);
    }
    await c1.start('--name', 'c1', '--token', token);
  });
});

test('an agent that watches stops at once when it is told to', async () => {
  const began = performance.now();
  expect(await a1.agent.stop('SIGTERM', SOON.timeout)).toBe(0);
  console.log(`the agent took ${Math.round(performance.now() - began)} ms to stop`);
});
