// Makes the plan that a seed stands for: machines, sites, networks, and a history of work and faults.

import { withCompanies } from './company-planner.ts';
import type { Weather } from './internet.ts';
import type { NatKind } from './nat.ts';
import { PACES } from './pace.ts';
import { type Action, type NodePlan, type Plan, type PlanOptions, REGISTRY, type Step } from './plan.ts';
import { Random } from './random.ts';

const PODS_PER_NODE = 5;
/** Further behind, a clock takes SVIDs that were just issued for ones of the future. */
const BEHIND_MS = 4 * 60_000;
const AHEAD_MS = 60 * 60_000;
const MINUTE = 60_000;
const DAY = 24 * 60 * MINUTE;
/** The most a wall clock jumps. */
const JUMP_MS = 10 * DAY;
/** In lively plans leases may be so short that they end while faults last. */
const LIVELY_BUDGETS = [MINUTE, 3 * MINUTE, 10 * MINUTE, 6 * DAY];
const QUIET_BUDGETS = [DAY, 6 * DAY];

export const makePlan = (seed: string, options: PlanOptions): Plan => {
  const random = new Random(`plan ${seed}`);
  const pace = options.pace ?? 'lively';
  const isQuiet = pace === 'quiet';
  const sites = Array.from(
    // A NAT's mappings are kept open twice a minute, which is not quiet.
    { length: isQuiet ? 0 : random.between(0, 2) },
    (): NatKind => random.pick(['port-restricted', 'symmetric']),
  );
  const site = (): number | undefined =>
    sites.length === 0 || random.chance(0.6) ? undefined : random.between(0, sites.length - 1);
  const nodes = Array.from({ length: random.between(...options.nodes) }, (_, i) => ({
    name: `n${i + 1}`,
    site: site(),
  }));
  const networks = ['red', 'green', 'blue'].slice(0, random.between(1, isQuiet ? 2 : 3));
  const outageBudgetMs = random.pick(isQuiet ? QUIET_BUDGETS : LIVELY_BUDGETS);
  const { usesToyPrimitives } = options;
  const scene = { seed, usesToyPrimitives, pace, outageBudgetMs, nodes, sites, networks };
  const planner = new Planner(random, scene);
  const steps: Step[] = [];
  let at = 0;
  for (let i = 0; i < options.steps; i++) {
    at += random.between(0, PACES[pace].stepMs);
    const action = planner.next();
    steps.push({ ...action, at });
  }
  return withCompanies({ ...scene, steps });
};

class Planner {
  readonly #random: Random;
  readonly #scene: Omit<Plan, 'steps'>;
  readonly #pods = new Map<string, { readonly node: string; readonly networks: Set<string> }>();
  #nodes: readonly NodePlan[];
  #started = 0;

  constructor(random: Random, scene: Omit<Plan, 'steps'>) {
    this.#random = random;
    this.#scene = scene;
    this.#nodes = scene.nodes;
  }

  next(): Action {
    const random = this.#random;
    if (this.#pods.size < this.#nodes.length) return this.#startPod();
    return random.chance(0.55) ? this.#work() : this.#fault();
  }

  // --- the workload

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
    const networks = this.#scene.networks.filter(() => this.#random.chance(0.6));
    if (networks.length === 0) networks.push(this.#random.pick(this.#scene.networks));
    this.#pods.set(pod, { node, networks: new Set(networks) });
    return { kind: 'start-pod', pod, node, networks };
  }

  #switch(pod: string): Action {
    const network = this.#random.pick(this.#scene.networks);
    const on = this.#pods.get(pod)?.networks ?? new Set<string>();
    if (on.delete(network)) return { kind: 'detach', pod, network };
    on.add(network);
    return { kind: 'attach', pod, network };
  }

  // --- faults

  #fault(): Action {
    const random = this.#random;
    const node = random.pick(this.#nodes).name;
    const forMs = random.between(500, PACES[this.#scene.pace].longestFaultMs);
    switch (random.between(0, 21)) {
      case 0:
        return { kind: 'kill-agent', node };
      case 1:
      case 2:
        return { kind: 'crash-agent', node, points: random.between(0, 25) };
      case 3:
        return { kind: 'crash-registry', node: REGISTRY, points: random.between(0, 12) };
      case 4:
      case 5:
        return { kind: 'kill-registry', forMs: this.#outage(forMs) };
      case 6:
        return this.#machineFault(node, forMs);
      case 7:
      case 8:
        return this.#partition(forMs);
      case 9:
        return this.#cutRegistry(forMs);
      case 10:
      case 11:
        return { kind: 'weather', weather: this.#weather(), forMs };
      case 12:
        return this.#natFault(node);
      case 13:
        return { kind: 'fill-disk', node: random.pick([node, REGISTRY]), forMs };
      case 14:
      case 15:
        return this.#clockFault(node, forMs);
      case 16:
        return random.chance(0.5)
          ? { kind: 'break-streams' }
          : { kind: 'shrink-mtu', node, mtu: 1280, forMs };
      case 17:
        return this.#freeze(node, forMs);
      case 18:
        return this.#adminFault(node, forMs);
      case 19:
        return this.#restoreFault();
      case 20:
        return { kind: 'flood', node, forMs: Math.min(forMs, 20_000) };
      default:
        return { kind: 'attack', forMs: Math.min(forMs, 40_000) };
    }
  }

  /** Mostly shorter than the outage budget, and now and then longer than a lease. */
  #outage(forMs: number): number {
    const random = this.#random;
    const budget = this.#scene.outageBudgetMs;
    if (this.#scene.pace === 'lively' && budget > 10 * MINUTE) return forMs;
    if (random.chance(0.6)) return forMs;
    return Math.floor(budget * (random.chance(0.7) ? random.fraction() : 1 + random.fraction()));
  }

  #machineFault(node: string, forMs: number): Action {
    const random = this.#random;
    for (const [pod, one] of this.#pods) if (one.node === node) this.#pods.delete(pod);
    if (this.#nodes.length > 2 && random.chance(0.2)) {
      this.#nodes = this.#nodes.filter(({ name }) => name !== node);
      return { kind: 'lose-machine', node };
    }
    return { kind: 'halt-machine', node, forMs: this.#outage(forMs) };
  }

  /**
   * What sleeps for longer than a lease holds addresses that are given to others, and so does what is stopped: neither can
   * know.
   */
  #freeze(node: string, forMs: number): Action {
    const kind = this.#random.pick(['stop-agent', 'suspend-machine'] as const);
    const most = this.#scene.outageBudgetMs * (kind === 'stop-agent' ? 0.9 : 1.25);
    return { kind, node, forMs: Math.floor(Math.min(this.#outage(forMs), most)) };
  }

  #partition(forMs: number): Action {
    const random = this.#random;
    const everybody = [REGISTRY, ...this.#nodes.map(({ name }) => name)];
    const from = everybody.filter(() => random.chance(0.4));
    if (from.length === 0) from.push(random.pick(everybody));
    const to = everybody.filter((name) => !from.includes(name));
    return { kind: 'partition', from, to, isOneWay: random.chance(0.3), forMs };
  }

  #cutRegistry(forMs: number): Action {
    const random = this.#random;
    const nodes = this.#nodes.map(({ name }) => name).filter(() => random.chance(0.5));
    if (nodes.length === 0) nodes.push(random.pick(this.#nodes).name);
    return { kind: 'cut-registry', nodes, isOneWay: random.chance(0.3), forMs: this.#outage(forMs) };
  }

  #natFault(node: string): Action {
    const { length } = this.#scene.sites;
    const random = this.#random;
    if (length > 0 && random.chance(0.6))
      return { kind: 'rebind-nat', site: random.between(0, length - 1), address: random.chance(0.4) };
    const site = length === 0 || random.chance(0.5) ? undefined : random.between(0, length - 1);
    return { kind: 'move', node, site };
  }

  /** A little off for good, or very far off for a while. */
  #clockFault(node: string, forMs: number): Action {
    const random = this.#random;
    if (random.chance(0.5)) {
      const aheadMs = random.between(-JUMP_MS, JUMP_MS);
      return { kind: 'jump-clock', node: random.pick([node, REGISTRY]), aheadMs, forMs: this.#outage(forMs) };
    }
    const most = this.#scene.outageBudgetMs / 20;
    const aheadMs = random.between(-Math.min(BEHIND_MS, most), Math.min(AHEAD_MS, most));
    return { kind: 'set-clock', node, aheadMs };
  }

  #adminFault(node: string, forMs: number): Action {
    const random = this.#random;
    const what = random.between(0, 3);
    if (what === 0) return { kind: 'reuse-token', node };
    if (what === 1 && this.#nodes.length > 2) return { kind: 'delete-node', node, forMs };
    const at = random.between(0, 200) * 4;
    const excluded = [`10.60.${at >> 8}.${at & 255}/30`, `fd00:60::${(at * 8).toString(16)}/125`];
    return { kind: 'exclude', network: random.pick(this.#scene.networks), excluded };
  }

  #restoreFault(): Action {
    const kinds = ['back-up-registry', 'restore-registry', 'roll-back-registry', 'empty-registry'] as const;
    return { kind: this.#random.pick(kinds) };
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
