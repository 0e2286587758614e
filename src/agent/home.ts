// A domain on whose networks this node is, its own or a partner's: the way to its registry, and what is kept toward that: leases,
// what was seen of its store, how it sees this node, and what it forgot. Domains share none of it, so that one registry that is
// gone, lies or lost its memory is no other's concern. Which domains there are is homes.ts.

import type { Logger } from 'pino';
import type { Vl3Error } from '../../native-free/error.ts';
import { isBelowOne } from '../../native-free/federation/constraints.ts';
import { SeenStore } from '../../native-free/reconcile/seen-store.ts';
import { ToldBounds } from '../../native-free/reconcile/told-bounds.ts';
import { domainOfKey } from '../../native-free/registry/network-key.ts';
import type { HeartbeatResponse } from '../api/generated/vl3/v1/agent_pb.js';
import type { AgentClient } from '../registry/client.ts';
import type { Clock } from './clock.ts';
import { LeaseCalls } from './lease-calls.ts';
import { LeaseKeeper } from './lease-keeper.ts';
import type { Membership } from './membership.ts';
import type { Networks } from './networks.ts';
import { Recovery } from './recovery.ts';
import type { AgentState } from './state.ts';
import type { SeenSurroundings, Surroundings } from './surroundings.ts';

export interface HomeOptions {
  readonly trustDomain: string;
  /** As keys of its networks name it; undefined: the own. */
  readonly domain: string | undefined;
  /** This node, as the domain calls it. */
  readonly node: string;
}

export interface HomeDeps {
  readonly state: AgentState;
  readonly clock: Clock;
  readonly client: () => AgentClient;
  /** What workloads may be called on a partner's networks. */
  readonly names?: () => readonly string[];
  /** The registry said that it does not know this node. */
  readonly onUnknown?: () => void;
  readonly networks: () => Networks;
  readonly surroundings: Surroundings;
  /** Turns everything attached from the prefix into wishes. */
  readonly withdraw: (network: string, prefix: string, reason: string) => Promise<unknown>;
  readonly report: (event: string) => void;
  readonly logger: Logger;
}

export class Home {
  readonly trustDomain: string;
  readonly domain: string | undefined;
  readonly node: string;
  readonly client: () => AgentClient;
  readonly seen: SeenStore;
  readonly leaseCalls = new LeaseCalls();
  readonly keeper: LeaseKeeper;
  readonly recovery: Recovery;
  readonly surroundings: SeenSurroundings;
  /** What its registry may make this node keep; undefined: the own one's, whatever it says. */
  readonly told: ToldBounds | undefined;
  readonly #deps: HomeDeps;

  constructor({ trustDomain, domain, node }: HomeOptions, deps: HomeDeps) {
    const { state, clock, client, surroundings, withdraw, logger } = deps;
    this.trustDomain = trustDomain;
    this.domain = domain;
    this.node = node;
    this.told = domain === undefined ? undefined : new ToldBounds();
    this.client = client;
    this.#deps = deps;
    this.seen = new SeenStore(state, domain);
    this.surroundings = surroundings.seenBy(domain);
    const report = (event: string): void => deps.report(this.isOwn ? event : `${trustDomain}: ${event}`);
    this.keeper = new LeaseKeeper(
      { domain },
      {
        ...{ state, clock, client, withdraw, report, logger },
        networks: deps.networks,
        calls: this.leaseCalls,
        seen: this.seen,
      },
    );
    this.recovery = new Recovery({
      ...{ client, report, logger, clock },
      memberships: () => this.memberships,
      seen: this.seen,
      renewLeases: () => this.keeper.renewSoon(),
    });
  }

  get isOwn(): boolean {
    return this.domain === undefined;
  }

  /** Of this node, on the domain's networks. */
  get memberships(): Membership[] {
    return this.#deps.networks().all.filter(({ network }) => domainOfKey(network) === this.domain);
  }

  /** Whether the domain lets a workload of this node be called that. What it does not is not announced there. */
  readonly mayName = (name: string): boolean => {
    const names = this.isOwn ? undefined : this.#deps.names?.();
    return names === undefined || isBelowOne(name, names);
  };

  /** A call was refused. */
  refusedBy({ code }: Vl3Error): void {
    if (code === 'unauthenticated') this.#deps.onUnknown?.();
  }

  // --- what its registry says

  observed(address: string): void {
    if (this.#deps.surroundings.seenAs(this.domain, address)) this.moved();
  }

  /** Where this node is has changed, as the domain sees it. */
  moved(): void {
    const { endpoints, behindNat, site } = this.surroundings;
    this.#deps.logger.info({ domain: this.trustDomain, endpoints, behindNat, site }, 'endpoints changed');
    for (const membership of this.memberships) membership.surroundingsChanged();
  }

  storeReplaced(): void {
    this.recovery.storeReplaced();
  }

  heard(
    { recovering, storeId, stamp }: Pick<HeartbeatResponse, 'recovering' | 'storeId' | 'stamp'>,
    askedAt: number,
  ): void {
    this.recovery.heard(recovering, stamp);
    for (const one of this.memberships) one.registryIsRecovering(recovering, storeId, askedAt);
  }

  isBack(): void {
    this.keeper.registryIsBack();
    for (const membership of this.memberships) membership.registryIsBack();
  }

  /** Keeps the leases, and testifies to the own registry, until `signal` aborts; never throws. */
  async run(signal: AbortSignal): Promise<void> {
    // A partner's registry that lost its memory asks its own nodes: what is said of those to this one is theirs to say.
    await Promise.all([this.keeper.run(signal), ...(this.isOwn ? [this.recovery.run(signal)] : [])]);
  }
}
