// Whatever order edits, sandboxes made anew, ends, kills of the agent and an API server that is away come in: once there is
// peace, pods have what their annotations say, and nothing else is left. The seed is printed; VL3_SEED repeats it.

import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { LocalClient } from '../../src/agent/local-client.ts';
import type { LocalAttachment } from '../../src/agent/local-messages.ts';
import { cni } from '../lab/cni.ts';
import { Domain } from '../lab/domain.ts';
import { Cluster, type KubePod } from '../lab/kube-cluster.ts';
import type { Node } from '../lab/node.ts';
import { Pod } from '../lab/pod.ts';

const KEY = 'vl3.io/networks';
const SOON = { timeout: 90_000, interval: 200 };
const ROUNDS = 60;
const TEXTS = ['red', 'green', 'red, green', 'red/net1', 'green/red', 'red, Blue', 'red?app=x', '', null];

const seed = Number(process.env['VL3_SEED'] ?? Math.floor(Math.random() * 1e6));
let state = seed;
/** Of `count`, the next. */
const dice = (count: number): number => {
  state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
  return (state >>> 8) % count;
};
const one = <T>(of: readonly T[]): T => of[dice(of.length)] as T;

let domain: Domain;
let cluster: Cluster;
let a1: Node;
let isApiUp = true;
let made = 0;

interface Actor {
  kube: KubePod;
  /** Where it runs now. */
  pod: Pod;
  container: string;
}

beforeAll(async () => {
  console.log(`VL3_SEED=${seed}`);
  domain = await Domain.start();
  await domain.createNetwork('red', '--pool-v4', '10.60.0.0/16');
  await domain.createNetwork('green', '--pool-v4', '10.70.0.0/16');
  a1 = await domain.addNode('a1', { options: Cluster.agentOptions(domain.lab) });
  cluster = await Cluster.start(domain.lab, a1);
  await a1.enrol();
}, 180_000);
afterAll(async () => {
  await domain?.close();
  cluster?.close();
});

const attachments = () => new LocalClient(a1.socket).attachments();

/** A sandbox of its own, of which the runtime tells; sometimes the plugin was asked first, as while it was made. */
const place = async (actor: Actor): Promise<void> => {
  made += 1;
  actor.pod = await Pod.create(domain.lab, `c${made}`, a1);
  actor.container = `c${String(made).padStart(15, '0')}`;
  if (dice(2) === 0) {
    const annotations = isApiUp ? ((await cluster.get(actor.kube)).metadata.annotations ?? {}) : {};
    const { namespace, name, uid } = actor.kube;
    // Refused or not: then the informer is asked.
    await cni(a1, 'ADD', {
      container: actor.container,
      netns: actor.pod.host.netns,
      annotations,
      pod: { namespace, name, uid },
    });
  }
  cluster.cri.run(actor.kube, actor.pod.host.netns, one(['containerd', 'cri-o'] as const));
};

/** As a runtime does: DEL, which may find no agent, and the namespace goes. */
const leave = async ({ kube, pod, container }: Actor): Promise<void> => {
  await cni(a1, 'DEL', { container });
  cluster.cri.stop(kube.uid);
  await domain.lab.run(['ip', 'netns', 'delete', pod.host.netns.replace('/run/netns/', '')]);
};

test('converges', async () => {
  const actors: Actor[] = [];
  for (let n = 0; n < 4; n++) {
    const kube = await cluster.run(`p${n}`, { annotations: { [KEY]: 'red' }, style: 'none' });
    const actor = { kube, pod: kube.pod, container: '' };
    await place(actor);
    actors.push(actor);
  }
  const events: (() => Promise<void>)[] = [
    async () => {
      if (isApiUp) await cluster.annotate(one(actors).kube, { [KEY]: one(TEXTS) });
    },
    async () => {
      if (isApiUp) await cluster.annotateNamespace('team-a', { [KEY]: one(['green', 'red', null]) });
    },
    async () => {
      const actor = one(actors);
      await leave(actor);
      await place(actor);
    },
    async () => {
      await a1.agent.stop('SIGKILL');
      if (dice(3) === 0) {
        const actor = one(actors);
        await leave(actor);
        await place(actor);
      }
      await a1.start();
    },
    async () => {
      await (isApiUp ? cluster.stopApi() : cluster.startApi());
      isApiUp = !isApiUp;
    },
    async () => await new Promise((resolve) => setTimeout(resolve, dice(1500))),
  ];
  const chances = [0, 0, 0, 0, 1, 2, 2, 3, 4, 5, 5, 5];
  for (let round = 0; round < ROUNDS; round++) await events[one(chances)]?.();
  if (!isApiUp) await cluster.startApi();
  isApiUp = true;

  await cluster.annotateNamespace('team-a', { [KEY]: 'green' });
  const wanted = ['red', 'red, green/net1', null, ''];
  const expected = [['red:red'], ['green:net1', 'red:red'], ['green:green'], []];
  for (const [n, { kube }] of actors.entries()) await cluster.annotate(kube, { [KEY]: wanted[n] ?? null });
  await vi.waitFor(async () => {
    const all = await attachments();
    const of = ({ pod }: Actor): LocalAttachment[] => all.filter(({ netns }) => netns === pod.host.netns);
    const found = actors.map((actor) =>
      of(actor)
        .map(({ network, interfaceName, ready }) => `${network}:${interfaceName}${ready ? '' : ' pending'}`)
        .sort(),
    );
    expect(found, `seed ${seed}`).toEqual(expected);
    expect(all).toHaveLength(expected.flat().length);
    for (const [n, { pod, kube }] of actors.entries()) {
      const links: { ifname: string }[] = JSON.parse(await pod.host.run(['ip', '-json', 'link']));
      const names = links.map(({ ifname }) => ifname).filter((name) => name !== 'lo');
      expect(names.sort()).toEqual(expected[n]?.map((text) => text.split(':')[1]).sort());
      expect(((await cluster.shown(kube)) ?? []).map(({ name }) => name)).toEqual(
        expected[n]?.map((text) => text.split(':')[0]),
      );
    }
    for (const network of ['red', 'green']) {
      const ends = await a1.router(network).run(['ip', '-o', 'link', 'show', 'type', 'veth']);
      expect(ends.split('\n').filter((line) => line !== '')).toHaveLength(
        all.filter((held) => held.network === network).length,
      );
    }
  }, SOON);
}, 600_000);
