// What one seed decides before anything runs: which machines there are and where, which networks, and every step of the
// workload and the faults, with its time. Plain data, so that a failing plan can be printed, run again and made smaller.

import type { Weather } from './internet.ts';
import type { NatKind } from './nat.ts';
import { Random } from './random.ts';

export interface NodePlan {
  readonly name: string;
  /** The site whose NAT it is behind; undefined: on the open internet. */
  readonly site: number | undefined;
}

export type Action =
  // --- the workload
  | { readonly kind: 'start-pod'; readonly pod: string; readonly node: string; readonly networks: string[] }
  | { readonly kind: 'attach' | 'detach'; readonly pod: string; readonly network: string }
  /** Without a goodbye its namespace just goes. */
  | { readonly kind: 'stop-pod'; readonly pod: string; readonly saysGoodbye: boolean }
  // --- faults
  | { readonly kind: 'kill-agent'; readonly node: string }
  /** Dies at a write or an effect, after `points` more. */
  | { readonly kind: 'crash-agent' | 'crash-registry'; readonly node: string; readonly points: number }
  | { readonly kind: 'halt-machine'; readonly node: string; readonly forMs: number }
  | { readonly kind: 'kill-registry'; readonly forMs: number }
  | {
      readonly kind: 'partition';
      readonly from: string[];
      readonly to: string[];
      readonly isOneWay: boolean;
      readonly forMs: number;
    }
  | { readonly kind: 'weather'; readonly weather: Weather; readonly forMs: number }
  | { readonly kind: 'rebind-nat'; readonly site: number }
  | { readonly kind: 'move'; readonly node: string; readonly site: number | undefined }
  | { readonly kind: 'fill-disk'; readonly node: string; readonly forMs: number }
  | { readonly kind: 'set-clock'; readonly node: string; readonly aheadMs: number }
  | { readonly kind: 'break-streams' }
  | { readonly kind: 'shrink-mtu'; readonly node: string; readonly mtu: number; readonly forMs: number }
  /** Somebody beside the path repeats and forges datagrams. */
  | { readonly kind: 'attack'; readonly forMs: number }
  // --- only in tests that plant a bug
  | { readonly kind: 'back-up-registry' | 'restore-registry' };

export type Step = Action & { readonly at: number };

export interface Plan {
  readonly seed: string;
  readonly usesToyPrimitives: boolean;
  readonly nodes: readonly NodePlan[];
  readonly sites: readonly NatKind[];
  readonly networks: readonly string[];
  /** By time. */
  readonly steps: readonly Step[];
}

export interface PlanOptions {
  readonly steps: number;
  /** How many machines at least and at most. */
  readonly nodes: readonly [number, number];
  readonly usesToyPrimitives: boolean;
}

export const REGISTRY = 'registry';

const MAX_PAUSE_MS = 3000;
const PODS_PER_NODE = 5;
const LONGEST_FAULT_MS = 40_000;
/** Further behind, a clock takes SVIDs that were just issued for ones of the future. */
const BEHIND_MS = 4 * 60_000;
const AHEAD_MS = 60 * 60_000;

export const makePlan = (seed: string, options: PlanOptions): Plan => {
  const random = new Random(`plan ${seed}`);
  const sites = Array.from(
    { length: random.between(0, 2) },
    (): NatKind => random.pick(['port-restricted', 'symmetric']),
  );
  const site = (): number | undefined =>
    sites.length === 0 || random.chance(0.6) ? undefined : random.between(0, sites.length - 1);
  const nodes = Array.from({ length: random.between(...options.nodes) }, (_, i) => ({
    name: `n${i + 1}`,
    site: site(),
  }));
  const networks = ['red', 'green', 'blue'].slice(0, random.between(1, 3));
  const planner = new Planner(random, nodes, sites, networks);
  const steps: Step[] = [];
  let at = 0;
  for (let i = 0; i < options.steps; i++) {
    at += random.between(0, MAX_PAUSE_MS);
    const action = planner.next();
    steps.push({ ...action, at });
  }
  return { seed, usesToyPrimitives: options.usesToyPrimitives, nodes, sites, networks, steps };
};

/** When the last fault that a step brings is over. */
export const endOf = (step: Step): number => step.at + ('forMs' in step ? step.forMs : 0);

class Planner {
  readonly #random: Random;
  readonly #nodes: readonly NodePlan[];
  readonly #sites: readonly NatKind[];
  readonly #networks: readonly string[];
  readonly #pods = new Map<string, { readonly node: string; readonly networks: Set<string> }>();
  #started = 0;

  constructor(
    random: Random,
    nodes: readonly NodePlan[],
    sites: readonly NatKind[],
    networks: readonly string[],
  ) {
    this.#random = random;
    this.#nodes = nodes;
    this.#sites = sites;
    this.#networks = networks;
  }

  next(): Action {
    const random = this.#random;
    if (this.#pods.size < this.#nodes.length) return this.#startPod();
    return random.chance(0.55) ? this.#work() : this.#fault();
  }

  #work(): Action {
    const random = this.#random;
    const pods = [...this.#pods.keys()];
    const pod = random.pick(pods);
    const what = random.between(0, 9);
    if (what < 4 && pods.length < this.#nodes.length * PODS_PER_NODE) return this.#startPod();
    if (what < 7) return this.#switch(pod);
    this.#pods.delete(pod);
    return { kind: 'stop-pod', pod, saysGoodbye: random.chance(0.6) };
  }

  #startPod(): Action {
    const pod = `p${++this.#started}`;
    const node = this.#random.pick(this.#nodes).name;
    const networks = this.#networks.filter(() => this.#random.chance(0.6));
    if (networks.length === 0) networks.push(this.#random.pick(this.#networks));
    this.#pods.set(pod, { node, networks: new Set(networks) });
    return { kind: 'start-pod', pod, node, networks };
  }

  #switch(pod: string): Action {
    const network = this.#random.pick(this.#networks);
    const on = this.#pods.get(pod)?.networks ?? new Set<string>();
    if (on.delete(network)) return { kind: 'detach', pod, network };
    on.add(network);
    return { kind: 'attach', pod, network };
  }

  #fault(): Action {
    const random = this.#random;
    const node = random.pick(this.#nodes).name;
    const forMs = random.between(500, LONGEST_FAULT_MS);
    switch (random.between(0, 15)) {
      case 0:
        return { kind: 'kill-agent', node };
      case 1:
      case 2:
        return { kind: 'crash-agent', node, points: random.between(0, 25) };
      case 3:
        return { kind: 'crash-registry', node: REGISTRY, points: random.between(0, 12) };
      case 4:
        return { kind: 'kill-registry', forMs };
      case 5:
        return this.#machineFault(node, forMs);
      case 6:
      case 7:
      case 8:
        return this.#partition(forMs);
      case 9:
      case 10:
        return { kind: 'weather', weather: this.#weather(), forMs };
      case 11:
        return this.#natFault(node);
      case 12:
        return { kind: 'fill-disk', node: random.pick([node, REGISTRY]), forMs: Math.min(forMs, 15_000) };
      case 13:
        return { kind: 'set-clock', node, aheadMs: random.between(-BEHIND_MS, AHEAD_MS) };
      case 14:
        return random.chance(0.5)
          ? { kind: 'break-streams' }
          : { kind: 'shrink-mtu', node, mtu: 1280, forMs };
      default:
        return { kind: 'attack', forMs };
    }
  }

  #machineFault(node: string, forMs: number): Action {
    for (const [pod, one] of this.#pods) if (one.node === node) this.#pods.delete(pod);
    return { kind: 'halt-machine', node, forMs };
  }

  #partition(forMs: number): Action {
    const random = this.#random;
    const everybody = [REGISTRY, ...this.#nodes.map(({ name }) => name)];
    const from = everybody.filter(() => random.chance(0.4));
    if (from.length === 0) from.push(random.pick(everybody));
    const to = everybody.filter((name) => !from.includes(name));
    return { kind: 'partition', from, to, isOneWay: random.chance(0.3), forMs };
  }

  #natFault(node: string): Action {
    const { length } = this.#sites;
    const random = this.#random;
    if (length > 0 && random.chance(0.6)) return { kind: 'rebind-nat', site: random.between(0, length - 1) };
    const site = length === 0 || random.chance(0.5) ? undefined : random.between(0, length - 1);
    return { kind: 'move', node, site };
  }

  #weather(): Weather {
    const random = this.#random;
    const sometimes = (most: number): number => (random.chance(0.5) ? random.fraction() * most : 0);
    return {
      loss: sometimes(0.4),
      duplication: sometimes(0.2),
      corruption: sometimes(0.1),
      reordering: sometimes(0.4),
      delay: [random.between(1, 50), random.between(50, 500)],
    };
  }
}
