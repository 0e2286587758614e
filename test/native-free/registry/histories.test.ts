// Random concurrent histories: many nodes run rules at once, each deciding from what it read some steps ago, on one
// store. However they interleave, what the rules promise holds after every step.

import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Vl3Error } from '../../../native-free/error.ts';
import { choosePrefix } from '../../../native-free/ipam/pool.ts';
import {
  parseAddress,
  parsePrefix,
  prefixContains,
  prefixCovers,
  prefixesOverlap,
} from '../../../native-free/ipam/prefix.ts';
import { putAttachments, putRecord } from '../../../native-free/registry/announcement-rules.ts';
import { enroll } from '../../../native-free/registry/enrolment-rules.ts';
import {
  joinNetwork,
  leasePrefix,
  leaveNetwork,
  releasePrefix,
  removeMember,
} from '../../../native-free/registry/lease-rules.ts';
import { createNetwork, deleteNetwork, updateNetwork } from '../../../native-free/registry/network-rules.ts';
import { deleteNode } from '../../../native-free/registry/node-rules.ts';
import type { Rule } from '../../../native-free/registry/rules.ts';
import { State } from '../../../native-free/registry/state.ts';
import { createToken } from '../../../native-free/registry/token-rules.ts';
import type { Range } from '../../../native-free/registry/transaction.ts';
import type { MemoryStore } from '../../../src/registry/memory-store.ts';
import { memoryStore, networkRequest, record } from './fixtures.ts';

const NODES = ['n0', 'n1', 'n2', 'n3'];
const NOW = 1_000_000;
const EVERYTHING: readonly Range[] = [{ prefix: '/' }];
const HOLES = ['10.9.1.0/24', '10.9.8.0/21'];

type Action =
  | { kind: 'join' | 'leave' | 'delete-node' | 'remove' | 'attach'; node: string }
  | { kind: 'lease'; node: string; family: 4 | 6; id: number }
  | { kind: 'release' | 'announce'; node: string; pick: number }
  | { kind: 'update'; exclude: boolean; length: number }
  | { kind: 'delete-network' | 'create-network' };
type Step = Action | { kind: 'enrol'; node: string };

const node = fc.constantFrom(...NODES);
const ofNode = (weight: number, kind: 'join' | 'leave' | 'delete-node' | 'remove' | 'attach' | 'enrol') => ({
  weight,
  arbitrary: fc.record({ kind: fc.constant(kind), node }),
});
const step: fc.Arbitrary<Step> = fc.oneof(
  ofNode(8, 'join'),
  ofNode(3, 'leave'),
  ofNode(3, 'attach'),
  ofNode(2, 'enrol'),
  ofNode(1, 'delete-node'),
  ofNode(1, 'remove'),
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant('lease' as const),
      node,
      family: fc.constantFrom(4 as const, 6 as const),
      id: fc.nat(4),
    }),
  },
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constantFrom('release' as const, 'announce' as const),
      node,
      pick: fc.nat(5),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant('update' as const),
      exclude: fc.boolean(),
      length: fc.constantFrom(22, 23, 24, 25),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ kind: fc.constantFrom('delete-network' as const, 'create-network' as const) }),
  },
);

let serial = 0;
const network = networkRequest({ poolV4: '10.9.0.0/20', poolV6: 'fd09::/108', nodePrefixLengthV4: 24 });

/** The rule of a step, chosen with what the actor read. */
const ruleOf = (action: Action, seen: State): Rule<unknown> => {
  switch (action.kind) {
    case 'create-network':
      return createNetwork(network, { now: NOW, uid: `uid${++serial}` });
    case 'delete-network':
      return deleteNetwork('red');
    case 'update': {
      const current = seen.network('red');
      const revision = current?.revision ?? 0;
      const excluded = action.exclude ? HOLES : [];
      const change = { excluded, nodePrefixLengthV4: action.length, uid: '', revision };
      return updateNetwork({ ...network, ...change });
    }
    case 'join':
      return joinNetwork('red', action.node, NOW, choosePrefix);
    case 'leave':
      return leaveNetwork('red', action.node, NOW);
    case 'delete-node':
      return deleteNode(action.node, NOW);
    case 'remove':
      return removeMember('red', action.node, NOW);
    case 'lease':
      return leasePrefix(
        { network: 'red', node: action.node, family: action.family, requestId: `r${action.id}` },
        NOW,
        choosePrefix,
      );
    case 'release':
    case 'announce': {
      const own = seen
        .leases('red')
        .filter(({ value }) => value.node === action.node && value.freedAt === undefined);
      const picked = own[action.pick % Math.max(1, own.length)]?.value;
      if (action.kind === 'release')
        return releasePrefix('red', action.node, picked?.prefix ?? '10.9.0.0/24');
      const claims = own
        .slice(0, action.pick)
        .map(({ value: { prefix, leasedAt } }) => ({ prefix, leasedAt }));
      return putRecord('red', action.node, record({ sequence: ++serial, prefixes: claims }));
    }
    case 'attach': {
      const own = seen
        .leases('red')
        .filter(({ value }) => value.node === action.node && value.freedAt === undefined);
      return putAttachments(
        'red',
        action.node,
        own.map(({ value }, i) => ({
          id: `a${i}`,
          workload: '',
          addresses: [value.prefix.replace(/\/.*$/, '')],
          interfaceName: 'red',
          labels: {},
        })),
        NOW,
      );
    }
  }
};

const heldIn = (state: State | undefined, prefix: string): string | undefined => {
  const lease = state?.lease('red', prefix)?.value;
  return lease?.freedAt === undefined ? lease?.node : undefined;
};

const mustHold = async (store: MemoryStore, before: State | undefined): Promise<State> => {
  const state = new State(EVERYTHING, await store.read(EVERYTHING));
  const leases = state
    .leases('red')
    .filter(({ value }) => value.freedAt === undefined)
    .map(({ value }) => ({ ...value, parsed: parsePrefix(value.prefix) }));
  const known = state.network('red')?.value;
  if (known === undefined) expect(state.leases('red')).toEqual([]);
  for (const [i, lease] of leases.entries()) {
    const pools = [known?.poolV4, known?.poolV6].filter((pool) => pool !== undefined).map(parsePrefix);
    expect(pools.some((pool) => prefixCovers(pool, lease.parsed))).toBe(true);
    for (const other of leases.slice(i + 1)) expect(prefixesOverlap(lease.parsed, other.parsed)).toBe(false);
    expect(state.member('red', lease.node)).toBeDefined();
    // Never taken from whoever holds it.
    const holder = heldIn(before, lease.prefix);
    if (holder !== undefined) expect(lease.node).toBe(holder);
    // A new lease is never inside what is excluded now.
    const isNew = before !== undefined && holder === undefined;
    const excluded = before?.network('red')?.value.excluded ?? [];
    if (isNew) expect(excluded.map(parsePrefix).some((hole) => prefixCovers(hole, lease.parsed))).toBe(false);
  }
  for (const name of NODES) {
    const announced = state.record('red', name);
    for (const { prefix } of announced?.value.prefixes ?? []) {
      expect(heldIn(state, prefix)).toBe(name);
    }
    if (announced !== undefined) expect(state.member('red', name)).toBeDefined();
    // A record never goes without a tombstone or a later record that covers it.
    const gone = before?.record('red', name);
    if (gone !== undefined && announced === undefined && known !== undefined) {
      expect(state.tombstone('red', name)?.value.recordSequence).toBeGreaterThanOrEqual(gone.value.sequence);
    }
    if (gone !== undefined && announced !== undefined) {
      expect(announced.value.sequence).toBeGreaterThanOrEqual(gone.value.sequence);
    }
  }
  for (const { value } of state.attachments('red')) {
    const own = leases.filter(({ node: holder }) => holder === value.node);
    for (const text of value.addresses) {
      expect(own.some(({ parsed }) => prefixContains(parsed, parseAddress(text)))).toBe(true);
    }
  }
  return state;
};

test('no interleaving of stale decisions breaks a promise of the rules', async () => {
  const history = fc.array(fc.record({ action: step, stale: fc.nat(4) }), { minLength: 20, maxLength: 60 });
  await fc.assert(
    fc.asyncProperty(history, async (steps) => {
      await using store = memoryStore();
      const carryOut = async <T>(rule: Rule<T>, seen: State): Promise<void> => {
        try {
          const plan = rule.decide(seen);
          await store.transact(plan.compares, plan.operations);
        } catch (error) {
          if (!(error instanceof Vl3Error) || error.code === 'internal') throw error;
        }
      };
      const fresh = async () => new State(EVERYTHING, await store.read(EVERYTHING));
      const enrolling = async (name: string) => {
        const hash = (++serial).toString(16).padStart(64, '0');
        // The first 16 digits are the token's id.
        const secretHash = hash.slice(48) + hash.slice(0, 48);
        await carryOut(createToken({ hash: secretHash, node: name, ttlMs: undefined }, NOW), await fresh());
        const certificate = { serial: `s${serial}`, notAfter: NOW * 2 };
        const svid = { certificate, notBefore: NOW, chain: ['AA=='] };
        const request = { secretHash, node: name, keyHash: `k${serial}`, spiffeId: 's', svid };
        await carryOut(enroll(request, NOW), await fresh());
      };
      await carryOut(createNetwork(network, { now: NOW, uid: 'uid' }), await fresh());
      for (const name of NODES) await enrolling(name);
      const states: State[] = [await fresh()];
      for (const { action, stale } of steps) {
        // Every read of the past is one that some actor could have made just before the others went on.
        const seen = states[Math.max(0, states.length - 1 - stale)] ?? (await fresh());
        if (action.kind === 'enrol') await enrolling(action.node);
        else await carryOut(ruleOf(action, seen), seen);
        states.push(await mustHold(store, states.at(-1)));
      }
    }),
    { numRuns: 150 },
  );
});
