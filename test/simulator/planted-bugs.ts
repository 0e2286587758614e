// Bugs that real systems have had, planted on purpose: the simulator must find each, or its silence is worth nothing.

import type { Endpoint } from '../../native-free/device/data-plane.ts';
import type { Tunnel } from '../../native-free/device/tunnel.ts';
import { Allocator } from '../../native-free/ipam/allocator.ts';
import type { Address } from '../../native-free/ipam/prefix.ts';
import type { Moment } from '../../native-free/moment.ts';
import { clockOf } from '../../native-free/registry/clock-rules.ts';
import { type Clock, type Lease, lease as leaseSchema } from '../../native-free/registry/model.ts';
import { put } from '../../native-free/registry/rules.ts';
import { State } from '../../native-free/registry/state.ts';
import type { Operation } from '../../native-free/registry/transaction.ts';
import type { DurableStore } from '../../native-free/simulator/durable-store.ts';
import type { Hooks } from '../../native-free/simulator/hooks.ts';
import type { Invariant } from '../../native-free/simulator/invariants.ts';
import { endOf, type Plan, type PlanOptions, type Step } from '../../native-free/simulator/plan.ts';
import { makePlan } from '../../native-free/simulator/planner.ts';
import { Transport } from '../../native-free/wire/message.ts';

export interface PlantedBug {
  /** What is wrong, as a sentence that goes on from "finds". */
  readonly name: string;
  readonly breaks: Invariant;
  readonly hooks: Partial<Hooks>;
  /** A step that only this bug's plans have. */
  readonly change?: (plan: Plan) => Plan;
}

/** Hands what was given back out at once, and forgets that it did. */
class StaleAllocator extends Allocator {
  readonly #givenBack: { readonly address: Address; readonly owner: string }[] = [];

  override allocate(...asked: Parameters<Allocator['allocate']>): Address | undefined {
    const [family] = asked;
    const stale = this.#givenBack.find(({ address }) => address.family === family);
    return stale?.address ?? super.allocate(...asked);
  }

  override free(address: Address, owner: string): boolean {
    this.#givenBack.push({ address, owner });
    return super.free(address, owner);
  }
}

class NeverFreeingAllocator extends Allocator {
  override free(): boolean {
    return true;
  }
}

/** Moves a peer to wherever a datagram with its receiver index comes from. */
const roamAtOnce = (tunnel: Tunnel, datagram: Uint8Array, source: Endpoint): void => {
  const receiver = Transport.parse(datagram)?.receiver;
  const peer = receiver === undefined ? undefined : tunnel.plane.keypair(receiver)?.peer;
  if (peer !== undefined) tunnel.plane.report({ kind: 'endpoint-moved', peer: peer.id, endpoint: source });
};

/** A length that a forger chooses is believed. */
const believeLength = (_: Tunnel, datagram: Uint8Array): void => {
  const believed = datagram[datagram.length - 1] ?? 0;
  if (believed === 0xff) throw new RangeError('offset is outside the bounds of the DataView');
};

const DAY_MS = 24 * 3_600_000;
const BUDGET_MS = 60_000;

/** Nothing but the workload, two pods that stay, and what shows the bug: so that it is found soon. */
const only =
  (extra: readonly Step[], outageBudgetMs = 6 * DAY_MS) =>
  (plan: Plan): Plan => {
    const pods = ['n1', 'n2'].map(
      (node): Step => ({ kind: 'start-pod', pod: `stays-${node}`, node, networks: ['red'], at: 0 }),
    );
    const home = plan.nodes.filter(({ isForeign }) => isForeign !== true);
    const isOfHome = (step: Step): boolean =>
      !('node' in step) || home.some(({ name }) => name === step.node);
    const workload = plan.steps.filter((step) => /-pod$|^attach$|^detach$/.test(step.kind) && isOfHome(step));
    const steps = [...pods, ...workload, ...extra].sort((one, other) => one.at - other.at);
    return {
      ...plan,
      outageBudgetMs,
      sites: [],
      nodes: home.map(({ name }) => ({ name, site: undefined })),
      steps,
    };
  };

/** As `only`, and a partner with one node, one pod and one rule for it. */
const withPartner =
  (isRogue: boolean, ...extra: readonly Step[]) =>
  (plan: Plan): Plan => {
    const changed = only([
      { kind: 'invite-partner', at: 1000 },
      { kind: 'create-rule', network: 'red', rule: 'web', plan: BY_LABEL, at: 1500 },
      { kind: 'label', pod: 'q1', labels: { app: 'web' }, at: 2000 },
      { kind: 'start-pod', pod: 'q1', node: 'f1', networks: ['red'], at: 15_000 },
      ...extra,
      // So long it goes on.
      { kind: 'label', pod: 'nobody', labels: {}, at: 150_000 },
    ])(plan);
    return {
      ...changed,
      nodes: [...changed.nodes, { name: 'f1', site: undefined, isForeign: true, isRogue }],
    };
  };
const BY_LABEL = { from: 'partner', labels: { app: 'web' } } as const;

const isForeign = (node: string): boolean => node.includes('@');

/** What n3 holds is not in the backup, and n4 asks before n3 has said so. */
const restoringYesterday = (plan: Plan): Plan => ({
  ...only([
    { kind: 'back-up-registry', at: 8000 },
    { kind: 'start-pod', pod: 'before', node: 'n3', networks: ['red'], at: 10_000 },
    { kind: 'restore-registry', at: 30_000 },
    { kind: 'start-pod', pod: 'after', node: 'n4', networks: ['red'], at: 30_100 },
  ])({ ...plan, steps: plan.steps.filter((step) => !('node' in step) || step.node === 'n1') }),
  nodes: ['n1', 'n2', 'n3', 'n4'].map((name) => ({ name, site: undefined })),
});
const jumping = only([{ kind: 'jump-clock', node: 'n1', aheadMs: 10 * DAY_MS, forMs: 90_000, at: 40_000 }]);
const slowAnswers = only(
  [
    {
      kind: 'weather',
      weather: { loss: 0, duplication: 0, corruption: 0, reordering: 0, delay: [2500, 4500] },
      forMs: 20_000,
      at: 40_000,
    },
    { kind: 'cut-registry', nodes: ['n1', 'n2'], isOneWay: false, forMs: 100_000, at: 59_000 },
  ],
  BUDGET_MS,
);
/** n2 is gone for good; while its prefixes are in quarantine the registry is started now and then. */
const losing = only([{ kind: 'lose-machine', node: 'n2', at: 60_000 }], BUDGET_MS);
const emptying = only([
  { kind: 'cut-registry', nodes: ['n2'], isOneWay: false, forMs: 120_000, at: 40_000 },
  { kind: 'empty-registry', at: 45_000 },
]);
/** n1 leaves red when nothing is on it any more, the answer is lost, and then something is attached again. */
const leavingUnheard = (plan: Plan): Plan => ({
  ...only([
    { kind: 'stop-pod', pod: 'stays-n1', saysGoodbye: true, at: 3000 },
    { kind: 'partition', from: ['registry'], to: ['n1'], isOneWay: true, forMs: 15_000, at: 17_000 },
    { kind: 'start-pod', pod: 'again', node: 'n1', networks: ['red'], at: 28_000 },
  ])({ ...plan, steps: plan.steps.filter((step) => 'node' in step && step.node === 'n2') }),
});
const stealing = only([{ kind: 'reuse-token', node: 'n1', at: 30_000 }]);

/** As a clock that jumps has it. */
const byWall = (moment: Moment): Moment => ({ ...moment, boot: moment.wall });

/**
 * What is over within two minutes: pods that miss each other are found as well as at the end of long outages, and each
 * smaller plan that is tried waits for convergence in vain.
 */
const early = (plan: Plan): Plan => ({ ...plan, steps: plan.steps.filter((step) => endOf(step) < 120_000) });

/** Changes every lease in quarantine. */
const eachEnded =
  (change: (lease: Lease, clock: Clock) => Lease | undefined) =>
  (store: DurableStore): void => {
    const ranges = [{ prefix: '/' }];
    const state = new State(ranges, store.read(ranges));
    const clock = clockOf(state);
    const operations = state
      .leases()
      .filter(({ value }) => value.endedAt !== undefined)
      .map(({ key, value }): Operation => {
        const changed = change(value, clock);
        return changed === undefined ? { kind: 'delete', key } : put(key, leaseSchema, changed);
      });
    if (operations.length > 0) store.commit(store.keys.prepare(operations));
  };

export const PLANTED_BUGS: readonly PlantedBug[] = [
  {
    name: 'an allocator that hands out from a stale state',
    breaks: 'no address twice',
    hooks: { allocator: (state) => new StaleAllocator(state) },
  },
  {
    name: 'an agent that leaves a network without writing so down',
    breaks: 'no address outside its lease',
    hooks: { writesLeaving: false },
    change: leavingUnheard,
  },
  {
    name: 'a registry that frees prefixes 50 ms after a stream dropped',
    breaks: 'no address outside its lease',
    hooks: { streamFreesPrefixes: true },
  },
  {
    name: "a registry restored from yesterday's backup that issues prefixes at once",
    breaks: 'no prefix twice',
    hooks: { recovers: false },
    change: restoringYesterday,
  },
  {
    name: 'a quarantine that a start of the registry forgets',
    breaks: 'no prefix out of quarantine early',
    hooks: { afterRegistryStart: eachEnded(() => undefined) },
    change: losing,
  },
  {
    name: 'a quarantine that begins anew at every start of the registry',
    breaks: 'prefixes come back',
    hooks: { afterRegistryStart: eachEnded((lease, { elapsed }) => ({ ...lease, endedAt: elapsed })) },
    change: losing,
  },
  {
    name: 'a node that measures its leases by the wall clock',
    breaks: 'no outage stops anything',
    hooks: { leaseMoment: byWall },
    change: jumping,
  },
  {
    name: 'a node that measures its leases from the answer',
    breaks: 'no lease longer than granted',
    hooks: { leasesFromAnswer: true },
    change: slowAnswers,
  },
  {
    name: 'a record that a jump of the wall clock drops',
    breaks: 'no outage stops anything',
    hooks: { recordMoment: byWall },
    change: jumping,
  },
  {
    name: 'absence that is taken for deletion',
    breaks: 'no outage stops anything',
    hooks: { absenceDeletes: true },
    change: emptying,
  },
  {
    name: 'a join token that admits twice',
    breaks: 'no token twice',
    hooks: { usesTokensUp: false },
    change: stealing,
  },
  {
    name: 'a peer that keeps whatever it was granted once',
    breaks: 'no packet past admission',
    hooks: {
      granted: (granted, _, before) => (granted === 'whole' ? granted : [...granted, ...before]),
    },
    change: withPartner(true, { kind: 'label', pod: 'q1', labels: { app: 'ledger' }, at: 70_000 }),
  },
  {
    name: "a partner's node that is let have its whole prefix",
    breaks: 'no allowed IP beyond its grant',
    hooks: { granted: (granted, node) => (isForeign(node) && granted.length > 0 ? 'whole' : granted) },
    change: withPartner(false),
  },
  {
    name: "a revocation that leaves the partner's nodes on the network",
    breaks: 'no partner after its revocation',
    hooks: { removesStrays: false },
    change: withPartner(false, { kind: 'revoke-partner', at: 80_000 }),
  },
  {
    name: 'bundles that are merged',
    breaks: 'no identity but its domain’s own',
    hooks: { mergesBundles: true },
    change: withPartner(false, { kind: 'pretend', node: 'n1', at: 20_000 }),
  },
  {
    name: 'a packet that comes out on another network',
    breaks: 'no packet astray',
    hooks: { networkOf: (network) => (network === 'red' ? 'green' : network) },
  },
  {
    name: 'roaming on an unauthenticated packet',
    breaks: 'no endpoint but the peer’s own',
    hooks: { beforeReceive: roamAtOnce },
  },
  {
    name: 'a store that answers before the disk has it',
    breaks: 'no acknowledged write lost',
    hooks: { storeSyncs: false },
  },
  {
    name: 'an agent that starts one more timer each time',
    breaks: 'no queue without bound',
    hooks: { startsOneTimer: false },
  },
  {
    name: 'an agent that opens its watch of a registry which is gone again at once',
    breaks: 'no livelock',
    hooks: { backoffMs: () => 0 },
    change: only([{ kind: 'kill-registry', forMs: 60_000, at: 40_000 }]),
  },
  {
    name: 'an address that is never given back',
    breaks: 'no leftovers',
    hooks: { allocator: (state) => new NeverFreeingAllocator(state) },
  },
  {
    name: 'a watch that is not opened again',
    breaks: 'convergence',
    hooks: { watchesAgain: false },
    change: early,
  },
  {
    name: 'a length that is believed',
    breaks: 'no exception escapes',
    hooks: { beforeReceive: believeLength },
  },
];

export const plantedPlan = (bug: PlantedBug, seed: string, options: PlanOptions): Plan => {
  const plan = makePlan(seed, options);
  return bug.change?.(plan) ?? plan;
};
