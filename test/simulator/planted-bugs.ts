// Bugs that real systems have had, planted on purpose: the simulator must find each, or its silence is worth nothing.

import type { Endpoint } from '../../native-free/device/data-plane.ts';
import type { Tunnel } from '../../native-free/device/tunnel.ts';
import { Allocator } from '../../native-free/ipam/allocator.ts';
import type { Address, Family, Prefix } from '../../native-free/ipam/prefix.ts';
import type { Hooks } from '../../native-free/simulator/hooks.ts';
import type { Invariant } from '../../native-free/simulator/invariants.ts';
import type { Plan, PlanOptions, Step } from '../../native-free/simulator/plan.ts';
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

  override allocate(family: Family, owner: string, excluded: readonly Prefix[] = []): Address | undefined {
    const stale = this.#givenBack.find(({ address }) => address.family === family);
    return stale?.address ?? super.allocate(family, owner, excluded);
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

const restoringYesterday = (plan: Plan): Plan => {
  const middle = plan.steps[Math.floor(plan.steps.length / 2)]?.at ?? 0;
  const extra: Step[] = [
    { kind: 'back-up-registry', at: 1000 },
    { kind: 'restore-registry', at: middle },
  ];
  return { ...plan, steps: [...plan.steps, ...extra].sort((a, b) => a.at - b.at) };
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
  },
  {
    name: 'a registry that frees prefixes 50 ms after a stream dropped',
    breaks: 'no address outside its lease',
    hooks: { streamFreesPrefixes: true },
  },
  {
    name: "a registry restored from yesterday's backup without quarantine",
    breaks: 'no prefix twice',
    hooks: {},
    change: restoringYesterday,
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
    name: 'an address that is never given back',
    breaks: 'no leftovers',
    hooks: { allocator: (state) => new NeverFreeingAllocator(state) },
  },
  {
    name: 'a watch that is not opened again',
    breaks: 'convergence',
    hooks: { watchesAgain: false },
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
