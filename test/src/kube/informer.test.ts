// The informer among fakes that carry out what they are told: what it writes and how often, and that it rests when it is done.

import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { Vl3Error } from '../../../native-free/error.ts';
import type { Held, RunningPod } from '../../../native-free/kube/reconcile-pods.ts';
import type { WishDocument } from '../../../native-free/reconcile/documents.ts';
import { Informer, type InformerDeps } from '../../../src/kube/informer.ts';

const DOMAINS = { home: 'test.example', partners: new Set<string>() };
const SOON = { timeout: 20_000, interval: 10 };

interface Podlike {
  metadata: { name: string; namespace: string; uid: string; resourceVersion: string; annotations: object };
}

class World {
  readonly directory = mkdtempSync(join(tmpdir(), 'vl3-informer-'));
  readonly stop = new AbortController();
  readonly calls: string[] = [];
  documents: Held[] = [];
  pods: Podlike[] = [];
  isRuntimeUp = true;
  isWritable = true;
  /** What the runtime does. */
  hangs: PromiseWithResolvers<void> | undefined;
  /** Of time. */
  speed = 1;
  /** Where the runtime says that pods are. */
  sandboxes = new Map<string, RunningPod>();
  /** Of the runtime. */
  problem = '';
  /** While the runtime is asked. */
  meanwhile: () => void = () => {};
  tell: (type: string, object: unknown) => void = () => {};
  informer: Informer | undefined;
  #running: Promise<void> = Promise.resolve();

  pod(uid: string, networks?: string, runs = true): Podlike {
    const annotations = networks === undefined ? {} : { 'vl3.io/networks': networks };
    const netns = { path: `/run/netns/${uid}`, id: uid };
    if (runs) this.sandboxes.set(uid, { namespace: 'team-a', name: `pod-${uid}`, netns });
    return { metadata: { name: `pod-${uid}`, namespace: 'team-a', uid, resourceVersion: '5', annotations } };
  }

  start(): Informer {
    const namespace = { metadata: { name: 'team-a', annotations: { 'vl3.io/networks': '' } } };
    const { calls } = this;
    const deps: InformerDeps = {
      api: {
        list: async (resource) => ({
          items: resource === 'pods' ? this.pods : [namespace],
          resourceVersion: '7',
          more: '',
        }),
        watch: async (resource, _, onEvent) => {
          if (resource === 'pods') this.tell = (type, object) => void onEvent(type, object);
          await new Promise<void>((resolve) => this.stop.signal.addEventListener('abort', () => resolve()));
        },
        readPod: async (_, name) => {
          calls.push(`read ${name}`);
          const found = this.pods.find((one) => one.metadata.name === name);
          if (found === undefined) throw new Vl3Error('not-found', 'none');
          return found;
        },
        annotatePod: async ({ name }, _, text) => {
          calls.push(`show ${name} ${text === null ? 'nothing' : JSON.parse(text).length}`);
          if (!this.isWritable) throw new Vl3Error('unavailable', 'it is away');
        },
        createEvent: async ({ name, reason }) => void calls.push(`event ${name} ${reason}`),
      },
      runtime: {
        find: async (uids) => {
          if (!this.isRuntimeUp) throw new Vl3Error('unavailable', 'no runtime');
          if (this.hangs !== undefined) await this.hangs.promise;
          const found = new Map([...this.sandboxes].filter(([uid]) => uids.has(uid)));
          this.meanwhile();
          return found;
        },
        problem: this.problem,
        [Symbol.dispose]: () => {
          this.hangs?.reject(new Vl3Error('unavailable', 'it was given up'));
          calls.push('disposed');
        },
      },
      attachments: {
        documents: this.documents,
        want: async ({ network, netns, workload = '', labels = {} }, origin) => {
          calls.push(`want ${workload} ${network}`);
          const netnsId = netns.split('/').at(-1) ?? '';
          this.documents.push({
            ...origin,
            ...{
              id: `${network}-${netnsId}`,
              network,
              netns,
              netnsId,
              workload,
              labels,
              interfaceName: network,
            },
            ...{ addresses: ['10.60.0.2'], fixed: [], ready: true, attachedAt: 1, isLeaving: false },
          });
        },
        detach: async (request) => {
          const at = this.documents.findIndex((one) => 'id' in request && one.id === request.id);
          const [one] = at < 0 ? [] : this.documents.splice(at, 1);
          if (one !== undefined) calls.push(`detach ${one.id}`);
          return [];
        },
        relabel: async (id, { labels }) => {
          calls.push(`relabel ${id}`);
          const one = this.documents.findIndex((held) => held.id === id);
          const [found] = this.documents.slice(one, one + 1);
          if (found !== undefined) this.documents[one] = { ...found, labels: { ...labels } };
        },
      },
      domains: () => DOMAINS,
      defaultInterfaceName: (network) => network,
      shown: () => undefined,
      clock: { monotonic: () => performance.now() * this.speed, wall: () => 0 },
      logger: pino({ level: 'silent' }),
    };
    this.informer = new Informer({ defaultsFile: join(this.directory, 'namespaces.json') }, deps);
    this.#running = this.informer.run(this.stop.signal);
    return this.informer;
  }

  async end(): Promise<void> {
    this.stop.abort();
    await this.#running;
    rmSync(this.directory, { recursive: true, force: true });
  }
}

let world: World;
beforeEach(() => {
  world = new World();
});
afterEach(() => world.end());

const done = (...calls: string[]) => vi.waitFor(() => expect(world.calls).toEqual(calls), SOON);
const nothingElse = async (...calls: string[]) => {
  await new Promise((resolve) => setTimeout(resolve, 1_500));
  expect(world.calls).toEqual(calls);
};

test('each thing is done once, though the watch is late to tell of it, and then it rests', async () => {
  world.pods = [world.pod('u1', 'red,green'), world.pod('u2')];
  const informer = world.start();
  const all = ['want pod-u1 red', 'want pod-u1 green', 'show pod-u1 2'];
  await done(...all);
  await nothingElse(...all);
  expect(informer.status).toEqual({ inSync: true, behind: [], pods: 2, asking: 1, problems: [] });
  expect(JSON.parse(readFileSync(join(world.directory, 'namespaces.json'), 'utf8'))).toEqual({
    version: 1,
    namespaces: { 'team-a': { 'vl3.io/networks': '' } },
  });
  await world.end();
  expect(world.calls.at(-1)).toBe('disposed');
});

test('what a watch tells is acted on', async () => {
  const pod = world.pod('u1', 'red');
  world.pods = [pod];
  world.start();
  await done('want pod-u1 red', 'show pod-u1 1');
  const metadata = { ...pod.metadata, resourceVersion: '9', annotations: { 'vl3.io/networks': 'Red' } };
  world.tell('MODIFIED', { ...pod, metadata });
  await vi.waitFor(() => expect(world.calls).toContain('event pod-u1 InvalidAnnotation'), SOON);
  world.tell('MODIFIED', { ...pod, metadata: { ...metadata, annotations: {} } });
  await vi.waitFor(() => expect(world.calls).toContain('detach red-u1'), SOON);
  expect(world.documents).toEqual([]);
});

test('an API server that takes no writing is not pressed', async () => {
  world.pods = [world.pod('u1', 'red')];
  world.isWritable = false;
  world.start();
  await vi.waitFor(() => expect(world.calls).toContain('show pod-u1 1'), SOON);
  await new Promise((resolve) => setTimeout(resolve, 2_000));
  expect(world.calls.filter((one) => one.startsWith('show')).length).toBeLessThanOrEqual(4);
});

test('without the container runtime nothing is attached, and it is said; when it is back it is', async () => {
  world.pods = [world.pod('u1', 'red')];
  world.isRuntimeUp = false;
  const informer = world.start();
  await vi.waitFor(() => expect(informer.status.problems).toEqual(['no runtime']), SOON);
  expect(world.calls).toEqual([]);
  world.isRuntimeUp = true;
  await done('want pod-u1 red', 'show pod-u1 1');
  expect(informer.status.problems).toEqual([]);
});

test('a pod that was not listed is asked for once, and left alone while the API server has it', async () => {
  const stray = world.pod('u9', 'red');
  const wish: Omit<WishDocument, 'id'> = {
    ...{ network: 'red', workload: 'pod-u9', labels: {}, netns: '/run/netns/u9', netnsId: 'u9' },
    ...{ interfaceName: 'red', fixed: [], preferred: [], askedAt: 1, reason: 'x' },
    pod: { namespace: 'team-a', name: 'pod-u9', uid: 'u9' },
  };
  world.documents.push({ ...wish, id: 'w1' });
  world.start();
  await done('read pod-u9');
  await nothingElse('read pod-u9');
  world.documents.push({ ...wish, id: 'w2', pod: { namespace: 'team-a', name: 'pod-u8', uid: 'u8' } });
  world.tell('ADDED', stray);
  await vi.waitFor(() => expect(world.calls).toContain('detach w2'), SOON);
  expect(world.documents.map(({ id }) => id)).toEqual(['w1']);
});

test('what the CNI plugin makes in a new sandbox while the runtime tells of the old one is left', async () => {
  world.pods = [world.pod('u1', 'red')];
  const old: Omit<WishDocument, 'id'> = {
    ...{ network: 'red', workload: 'pod-u1', labels: { 'io.kubernetes.pod.namespace': 'team-a' } },
    ...{ netns: '/run/netns/u1', netnsId: 'u1', interfaceName: 'red', fixed: [], preferred: [], askedAt: 1 },
    ...{ reason: 'x', pod: { namespace: 'team-a', name: 'pod-u1', uid: 'u1' } },
  };
  world.documents.push({ ...old, id: 'old' });
  let asked = 0;
  world.meanwhile = () => {
    if (++asked > 1) return;
    // DEL of the old one and ADD of the new one; the next answer tells of the new one.
    world.documents.splice(0, 1, { ...old, id: 'new', netns: '/run/netns/new', netnsId: 'new' });
    const netns = { path: '/run/netns/new', id: 'new' };
    world.sandboxes.set('u1', { namespace: 'team-a', name: 'pod-u1', netns });
  };
  world.start();
  await vi.waitFor(() => expect(asked).toBeGreaterThan(1), SOON);
  await vi.waitFor(() => expect(world.calls).toContain('show pod-u1 1'), SOON);
  expect(world.calls.filter((one) => !one.startsWith('event') && !one.startsWith('show'))).toEqual([]);
  expect(world.documents.map(({ id }) => id)).toEqual(['new']);
});

test('a pod of which the runtime tells nothing is a problem that is said', async () => {
  world.pods = [world.pod('u1', 'red')];
  world.sandboxes.set('u1', { namespace: 'team-a', name: 'pod-u1', netns: undefined });
  world.problem = 'nobody knows where it is';
  const informer = world.start();
  await vi.waitFor(() => expect(informer.status.problems).toEqual(['nobody knows where it is']), SOON);
  expect(world.calls).toEqual([]);
});

test('labels that are edited without end are followed, but not every time', async () => {
  world.speed = 10;
  const pod = world.pod('u1', 'red');
  world.pods = [pod];
  world.start();
  await vi.waitFor(() => expect(world.documents).toHaveLength(1), SOON);
  const began = performance.now();
  const label = (app: string) => {
    const metadata = { ...pod.metadata, resourceVersion: '9', labels: { app } };
    world.tell('MODIFIED', { ...pod, metadata });
  };
  for (let edit = 0; edit < 300; edit++) {
    label(`v${edit}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  const relabelled = world.calls.filter((one) => one.startsWith('relabel')).length;
  expect(relabelled).toBeGreaterThan(1);
  expect(relabelled).toBeLessThanOrEqual(18 + ((performance.now() - began) * world.speed) / 4_600);
  await vi.waitFor(() => expect(world.documents[0]?.labels).toMatchObject({ app: 'v299' }), SOON);
});

test('a runtime that hangs does not hold up the end', async () => {
  world.pods = [world.pod('u1', 'red')];
  world.hangs = Promise.withResolvers();
  world.start();
  await vi.waitFor(() => expect(world.informer?.hasSeen).toBe(true), SOON);
  await new Promise((resolve) => setTimeout(resolve, 200));
  await world.end();
  expect(world.calls.filter((one) => one !== 'disposed')).toEqual([]);
});
