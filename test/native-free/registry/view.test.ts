// The view against a slow twin: a watcher that follows deltas from any revision, with any pauses and with views that
// were loaded anew, ends up with what a fresh snapshot says.

import fc from 'fast-check';
import { expect, test } from 'vitest';
import { keys } from '../../../native-free/registry/keys.ts';
import type * as model from '../../../native-free/registry/model.ts';
import type { Operation } from '../../../native-free/registry/transaction.ts';
import { type NetworkStep, RegistryView } from '../../../native-free/registry/view.ts';
import { memoryStore, record } from './fixtures.ts';

const NETWORKS = ['red', 'green'];
const NODES = ['a', 'b', 'c'];

const put = (key: string, value: unknown): Operation => ({
  kind: 'put',
  key,
  value: new TextEncoder().encode(JSON.stringify(value)),
});
const network = (name: string, mtu: number): model.Network => ({
  name,
  uid: `uid-${name}`,
  poolV4: '10.60.0.0/16',
  nodePrefixLengthV4: 24,
  excluded: [],
  mtu,
  createdAt: 1,
});

type Step =
  | {
      kind: 'join' | 'leave' | 'announce' | 'alive' | 'dead';
      network: string;
      node: string;
      sequence: number;
    }
  | { kind: 'update'; network: string; sequence: number }
  | { kind: 'reload'; watcher: number }
  | { kind: 'look'; watcher: number };

const steps: fc.Arbitrary<Step> = fc.oneof(
  fc.record({
    kind: fc.constantFrom(
      'join' as const,
      'leave' as const,
      'announce' as const,
      'alive' as const,
      'dead' as const,
    ),
    network: fc.constantFrom(...NETWORKS),
    node: fc.constantFrom(...NODES),
    sequence: fc.integer({ min: 1, max: 1000 }),
  }),
  fc.record({
    kind: fc.constant('update' as const),
    network: fc.constantFrom(...NETWORKS),
    sequence: fc.integer({ min: 1280, max: 1500 }),
  }),
  fc.record({ kind: fc.constant('reload' as const), watcher: fc.nat(3) }),
  fc.record({ kind: fc.constant('look' as const), watcher: fc.nat(3) }),
);

/** What one watcher of red holds. */
class Watcher {
  seen: number | undefined;
  mtu = 0;
  nodes = new Map<string, { record: string | undefined; alive: boolean }>();

  take(step: NetworkStep | undefined, current: number): void {
    if (step !== undefined && step.kind !== 'deleted') {
      if (step.kind === 'snapshot') this.nodes.clear();
      if (step.network !== undefined) this.mtu = step.network.mtu;
      for (const { node } of step.tombstones) this.nodes.delete(node);
      for (const { node, record: announced, alive } of step.nodes) {
        this.nodes.set(node, { record: announced?.record ?? this.nodes.get(node)?.record, alive });
      }
    }
    this.seen = step?.revision ?? current;
  }
}

test('following deltas from anywhere ends where a snapshot begins', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(steps, { minLength: 5, maxLength: 80 }), async (history) => {
      await using store = memoryStore();
      await store.transact(
        [],
        NETWORKS.map((name) => put(keys.network(name), network(name, 1300))),
      );
      let view = new RegistryView();
      view.load(await store.read(RegistryView.reads));
      const watchers = [new Watcher(), new Watcher(), new Watcher(), new Watcher()];
      const look = (watcher: Watcher) => {
        const { seen } = watcher;
        watcher.take(seen === undefined ? view.snapshot('red') : view.since('red', seen), view.revision);
      };
      const write = async (operations: Operation[]) => {
        const { revision } = await store.read([]);
        await store.transact([], operations);
        const stop = new AbortController();
        if ((await store.read([])).revision === revision) return;
        for await (const batch of store.watch('/', revision, stop.signal)) {
          view.apply(batch);
          break;
        }
      };
      for (const step of history) {
        if (step.kind === 'look') {
          const watcher = watchers[step.watcher];
          if (watcher !== undefined) look(watcher);
        } else if (step.kind === 'reload') {
          view = new RegistryView();
          view.load(await store.read(RegistryView.reads));
        } else if (step.kind === 'update') {
          await write([put(keys.network(step.network), network(step.network, step.sequence))]);
        } else {
          const on = step.network;
          const { node, sequence } = step;
          const member = (await store.read([{ key: keys.member(on, node) }])).entries.length > 0;
          if (step.kind === 'join')
            await write([put(keys.member(on, node), { network: on, node, joinedAt: 1 })]);
          if (step.kind === 'announce' && member) {
            const announced = record({
              record: Buffer.from(`${node} ${sequence}`).toString('base64'),
              sequence,
            });
            await write([
              put(keys.record(on, node), announced),
              { kind: 'delete', key: keys.tombstone(on, node) },
            ]);
          }
          if (step.kind === 'leave' && member) {
            await write([
              { kind: 'delete', key: keys.member(on, node) },
              { kind: 'delete', key: keys.record(on, node) },
              put(keys.tombstone(on, node), { network: on, node, removedAt: 1, recordSequence: sequence }),
            ]);
          }
          if (step.kind === 'alive') await write([put(keys.liveness(node), { since: 1 })]);
          if (step.kind === 'dead') await write([{ kind: 'delete', key: keys.liveness(node) }]);
        }
      }
      const fresh = new Watcher();
      look(fresh);
      for (const watcher of watchers) {
        look(watcher);
        expect(watcher.mtu).toBe(fresh.mtu);
        expect([...watcher.nodes].sort()).toEqual([...fresh.nodes].sort());
        expect(view.since('red', watcher.seen ?? 0)?.kind).not.toBe('snapshot');
      }
    }),
    { numRuns: 300 },
  );
});

test('a node that only died or came back is told without its record', async () => {
  await using store = memoryStore();
  const write = async (...operations: Operation[]) => (await store.transact([], operations)).revision;
  await write(put(keys.network('red'), network('red', 1300)));
  await write(put(keys.member('red', 'a'), { network: 'red', node: 'a', joinedAt: 1 }));
  const announced = record({ record: Buffer.from('a 1').toString('base64'), sequence: 1 });
  const beforeRecord = await write(put(keys.member('red', 'b'), { network: 'red', node: 'b', joinedAt: 1 }));
  const seen = await write(put(keys.record('red', 'a'), announced));
  await write(put(keys.liveness('a'), { since: 1 }));
  const view = new RegistryView();
  view.load(await store.read(RegistryView.reads));
  expect(view.since('red', seen)).toMatchObject({
    kind: 'delta',
    nodes: [
      { node: 'a', record: undefined, alive: true },
      { node: 'b', record: undefined, alive: false },
    ],
  });
  expect(view.since('red', beforeRecord)).toMatchObject({ nodes: [{ node: 'a', record: announced }, {}] });
  expect(view.snapshot('red')).toMatchObject({ nodes: [{ node: 'a', record: announced }, {}] });
});

test('a network that was deleted and made anew is told as a snapshot', async () => {
  await using store = memoryStore();
  const view = new RegistryView();
  await store.transact([], [put(keys.network('red'), network('red', 1300))]);
  view.load(await store.read(RegistryView.reads));
  const { revision } = view;
  view.apply({ revision: 2, changes: [{ key: keys.network('red'), value: undefined, createRevision: 1 }] });
  expect(view.since('red', revision)).toEqual({ kind: 'deleted', revision: 2 });
  const value = new TextEncoder().encode(JSON.stringify({ ...network('red', 1300), uid: 'other' }));
  view.apply({ revision: 3, changes: [{ key: keys.network('red'), value, createRevision: 3 }] });
  expect(view.since('red', revision)).toMatchObject({ kind: 'snapshot', network: { uid: 'other' } });
});
