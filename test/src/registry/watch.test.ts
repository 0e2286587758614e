import { createClient } from '@connectrpc/connect';
import { createConnectTransport } from '@connectrpc/connect-node';
import { describe, expect, onTestFinished, test } from 'vitest';
import { AgentService, type WatchNetworkResponse } from '../../../src/api/generated/vl3/v1/agent_pb.js';
import { signRecord } from '../../../src/identity/record-signer.ts';
import { clientTlsOptions } from '../../../src/identity/tls.ts';
import type { AgentClient } from '../../../src/registry/client.ts';
import { red, startDomain, type TestNode } from './fixture.ts';

/** Collects a watch's steps in the background. */
class Watching {
  readonly steps: WatchNetworkResponse[] = [];
  ended: unknown;
  readonly #stop = new AbortController();

  constructor(client: AgentClient, from: { storeId?: string; afterRevision?: bigint } = {}, network = 'red') {
    onTestFinished(() => this.#stop.abort());
    void this.#run(client, network, from);
  }

  async #run(client: AgentClient, network: string, from: object): Promise<void> {
    try {
      const steps = client.watchNetwork({ network, ...from }, { signal: this.#stop.signal });
      for await (const step of steps) this.steps.push(step);
      this.ended = 'quietly';
    } catch (error) {
      this.ended = error;
    }
  }

  /** What the steps so far add up to, as a watcher keeps it. */
  get nodes(): Record<string, { alive: boolean; sequence: string | undefined }> {
    const nodes: Record<string, { alive: boolean; sequence: string | undefined }> = {};
    for (const { step } of this.steps) {
      if (step.case === 'snapshot') for (const name of Object.keys(nodes)) delete nodes[name];
      if (step.case !== 'snapshot' && step.case !== 'delta') continue;
      for (const { node, alive, record } of step.value.nodes) {
        const text = record && new TextDecoder().decode(record.record);
        nodes[node] = { alive, sequence: text && /"sequence":(\d+)/.exec(text)?.[1] };
      }
      for (const { node } of step.value.tombstones) delete nodes[node];
    }
    return nodes;
  }

  get last(): WatchNetworkResponse {
    const last = this.steps.at(-1);
    if (last === undefined) throw new Error('no step yet');
    return last;
  }
}

const until = async (holds: () => boolean): Promise<void> => {
  const deadline = performance.now() + 30_000;
  while (!holds()) {
    if (performance.now() > deadline) throw new Error('it did not come to be');
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
};

const announce = async ({ client, identity }: TestNode, sequence: number): Promise<bigint> => {
  const { network, leases } = await client.joinNetwork({ network: 'red' });
  const signed = signRecord(identity, {
    network: 'red',
    networkUid: network?.uid ?? '',
    publicKey: Buffer.alloc(32, identity.name).toString('base64'),
    prefixes: leases.map(({ prefix, leasedAt }) => ({
      prefix,
      leasedAt: Number(leasedAt?.seconds ?? 0n) * 1000 + (leasedAt?.nanos ?? 0) / 1e6,
    })),
    endpoints: [],
    sequence,
  });
  const record = { ...signed, certificateChain: [...signed.certificateChain] };
  return (await client.putRecord({ network: 'red', record })).revision;
};

const withNodes = async (options: Parameters<typeof startDomain>[0], ...names: string[]) => {
  const domain = await startDomain(options);
  await (await domain.admin()).createNetwork({ network: red });
  const nodes: TestNode[] = [];
  for (const name of names) {
    const node = await domain.enrol(name);
    await node.client.joinNetwork({ network: 'red' });
    nodes.push(node);
  }
  return { domain, nodes };
};

const first = <T>(items: readonly T[]): T => {
  const [item] = items;
  if (item === undefined) throw new Error('empty');
  return item;
};

describe('a watch', () => {
  test('starts with a snapshot that holds what the watcher wrote before', async () => {
    const { nodes } = await withNodes({}, 'a', 'b');
    const a = first(nodes);
    await announce(a, 1);
    const watching = new Watching(a.client);
    await until(() => watching.steps.length > 0);
    const { step } = first(watching.steps);
    if (step.case !== 'snapshot') throw new Error(`a ${step.case} came first`);
    expect(step.value.network).toMatchObject({ name: 'red', poolV4: '10.60.0.0/16' });
    expect(watching.nodes).toEqual({
      a: { alive: false, sequence: '1' },
      b: { alive: false, sequence: undefined },
    });
  });

  test('is told in JSON too, with every field', async () => {
    const { domain, nodes } = await withNodes({}, 'a');
    const { identity } = first(nodes);
    await announce(first(nodes), 1);
    const transport = createConnectTransport({
      baseUrl: `https://127.0.0.1:${domain.registry.port}`,
      httpVersion: '2',
      useBinaryFormat: false,
      nodeOptions: { ...clientTlsOptions(identity.trustBundle, identity) },
    });
    const stop = new AbortController();
    onTestFinished(() => stop.abort());
    const steps = createClient(AgentService, transport).watchNetwork(
      { network: 'red' },
      { signal: stop.signal },
    );
    for await (const { storeId, step } of steps) {
      expect(storeId).not.toBe('');
      expect(step).toMatchObject({
        case: 'snapshot',
        value: { network: { name: 'red' }, nodes: [{ node: 'a' }] },
      });
      break;
    }
  });

  test('tells records, liveness, network changes and departures as they come', async () => {
    const { domain, nodes } = await withNodes({ livenessTtlMs: 1000 }, 'a', 'b');
    const [a, b] = nodes;
    if (a === undefined || b === undefined) throw new Error('no nodes');
    const watching = new Watching(a.client);
    await until(() => watching.steps.length > 0);

    const revision = await announce(b, 5);
    await until(() => watching.nodes['b']?.sequence === '5');
    expect(watching.last.revision).toBeGreaterThanOrEqual(revision);

    await b.client.heartbeat({});
    await until(() => watching.nodes['b']?.alive === true);
    await until(() => watching.nodes['b']?.alive === false);

    const admin = await domain.admin();
    const { network } = await admin.getNetwork({ name: 'red' });
    if (network === undefined) throw new Error('no network');
    await admin.updateNetwork({ network: { ...network, mtu: 1300 } });
    await until(() => {
      const { step } = watching.last;
      return step.case === 'delta' && step.value.network?.mtu === 1300;
    });

    await b.client.leaveNetwork({ network: 'red' });
    await until(() => watching.nodes['b'] === undefined);
    const { step } = watching.last;
    expect(step.case === 'delta' && step.value.tombstones).toMatchObject([{ node: 'b', recordSequence: 5n }]);
  });

  test('of one network says nothing of another', async () => {
    const { domain, nodes } = await withNodes({ progressMs: 60_000 }, 'a', 'b');
    await (await domain.admin()).createNetwork({ network: { name: 'green', poolV4: '10.61.0.0/16' } });
    const watching = new Watching(first(nodes).client);
    await until(() => watching.steps.length > 0);
    await nodes[1]?.client.joinNetwork({ network: 'green' });
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(watching.steps).toHaveLength(1);
  });

  test('resumes at a revision with what changed since, and nothing else', async () => {
    const { nodes } = await withNodes({}, 'a', 'b', 'c');
    const [a, b] = nodes;
    if (a === undefined || b === undefined) throw new Error('no nodes');
    const before = new Watching(a.client);
    await until(() => before.steps.length > 0);
    const { storeId, revision } = before.last;
    const quiet = new Watching(a.client, { storeId, afterRevision: revision });
    await until(() => quiet.steps.length > 0);
    expect(first(quiet.steps).step.case).toBe('progress');

    await announce(b, 3);
    const resumed = new Watching(a.client, { storeId, afterRevision: revision });
    await until(() => resumed.steps.length > 0);
    expect(first(resumed.steps).step.case).toBe('delta');
    expect(Object.keys(resumed.nodes)).toEqual(['b']);
  });

  test('resumes across a restart of the registry, departures and deaths included', async () => {
    const { domain, nodes } = await withNodes({ livenessTtlMs: 1000 }, 'a', 'b', 'c');
    const [a, b, c] = nodes;
    if (a === undefined || b === undefined || c === undefined) throw new Error('no nodes');
    await announce(b, 1);
    await announce(c, 1);
    const before = new Watching(a.client);
    await until(() => before.steps.length > 0);
    await c.client.heartbeat({});
    await until(() => before.nodes['c']?.alive === true);
    const { storeId, revision } = before.last;
    await b.client.leaveNetwork({ network: 'red' });
    await until(() => before.nodes['c']?.alive === false);
    await domain.stop();
    await until(() => before.ended !== undefined);
    expect(before.ended).toMatchObject({ code: 'unavailable' });
    await domain.start();
    const resumed = new Watching(a.client, { storeId, afterRevision: revision });
    await until(() => resumed.steps.length > 0);
    const { step } = first(resumed.steps);
    if (step.case !== 'delta') throw new Error(`a ${step.case} came first`);
    expect(step.value.tombstones.map(({ node }) => node)).toEqual(['b']);
    expect(step.value.nodes.find(({ node }) => node === 'c')).toMatchObject({ alive: false });
  });

  test('starts over with a snapshot when the store is another or the revision is from the future', async () => {
    const { nodes } = await withNodes({}, 'a');
    const { client } = first(nodes);
    const from = new Watching(client);
    await until(() => from.steps.length > 0);
    for (const position of [
      { storeId: 'another', afterRevision: 1n },
      { storeId: from.last.storeId, afterRevision: from.last.revision + 1000n },
    ]) {
      const watching = new Watching(client, position);
      await until(() => watching.steps.length > 0);
      expect(first(watching.steps).step.case).toBe('snapshot');
    }
    const nonsense = new Watching(client, { storeId: from.last.storeId, afterRevision: -5n });
    await until(() => nonsense.ended !== undefined);
    expect(nonsense.ended).toMatchObject({ code: 'invalid-argument' });
  });

  test('that is quiet says that it is alive, and up to which revision', async () => {
    const { nodes } = await withNodes({ progressMs: 50 }, 'a');
    const watching = new Watching(first(nodes).client);
    await until(() => watching.steps.filter(({ step }) => step.case === 'progress').length >= 3);
    expect(watching.last.revision).toBeGreaterThan(0n);
  });

  test('ends at once when an admin deletes the node, and others see its tombstone', async () => {
    const { domain, nodes } = await withNodes({}, 'a', 'b');
    const [a, b] = nodes;
    if (a === undefined || b === undefined) throw new Error('no nodes');
    const ofA = new Watching(a.client);
    const ofB = new Watching(b.client);
    await until(() => ofA.steps.length > 0 && ofB.steps.length > 0);
    const { freed } = await (await domain.admin()).deleteNode({ name: 'b' });
    expect(freed).toHaveLength(2);
    await until(() => ofB.ended !== undefined && ofA.nodes['b'] === undefined);
    expect(ofB.ended).toMatchObject({ code: 'unauthenticated' });
    expect(ofA.ended).toBeUndefined();
  });

  test('that a node begins beside four others of it ends the oldest, and none of others', async () => {
    const { domain, nodes } = await withNodes({}, 'greedy', 'b');
    const [greedy, b] = nodes;
    if (greedy === undefined || b === undefined) throw new Error('no nodes');
    const other = new Watching(b.client);
    const watches: Watching[] = [];
    for (let i = 0; i < 10; i++) {
      const watching = new Watching(greedy.client);
      watches.push(watching);
      await until(() => watching.steps.length > 0);
    }
    await until(() => watches.slice(0, 6).every(({ ended }) => ended !== undefined));
    expect(watches[0]?.ended).toMatchObject({ code: 'aborted' });
    expect(watches.slice(6).map(({ ended }) => ended)).toEqual([undefined, undefined, undefined, undefined]);
    expect(other.ended).toBeUndefined();
    expect((await (await domain.admin()).getStatus({})).watchers).toBe(5);
  });

  test('is counted while it is open', async () => {
    const { domain, nodes } = await withNodes({}, 'a');
    const watching = new Watching(first(nodes).client);
    await until(() => watching.steps.length > 0);
    const admin = await domain.admin();
    expect((await admin.getStatus({})).watchers).toBe(1);
    await first(nodes).client.leaveNetwork({ network: 'red' });
    await until(() => watching.ended !== undefined);
    expect(watching.ended).toMatchObject({ code: 'permission-denied' });
    expect((await admin.getStatus({})).watchers).toBe(0);
  });
});

test('a watcher that stops reading ends its stream, however often it comes back', async () => {
  const { domain, nodes } = await withNodes({}, 'a');
  const { client } = first(nodes);
  for (let i = 0; i < 600; i++) {
    for await (const _ of client.watchNetwork({ network: 'red' })) break;
  }
  const admin = await domain.admin();
  const deadline = performance.now() + 30_000;
  while ((await admin.getStatus({})).watchers > 0) {
    if (performance.now() > deadline) break;
  }
  expect((await admin.getStatus({})).watchers).toBe(0);
});

test('many watchers of one network all see the same', async () => {
  const { nodes } = await withNodes({}, 'b', ...Array.from({ length: 15 }, (_, i) => `a${i}`));
  const b = first(nodes);
  const watchers = [...nodes, ...nodes, ...nodes, ...nodes].map(({ client }) => new Watching(client));
  await until(() => watchers.every(({ steps }) => steps.length > 0));
  for (let sequence = 1; sequence <= 20; sequence++) await announce(b, sequence);
  await until(() => watchers.every(({ nodes: seen }) => seen['b']?.sequence === '20'));
});
