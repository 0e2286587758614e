// Keeps what a simulated node leases: renews all of it by one call, and takes down in time what cannot be renewed. The
// order of writes and effects is that of src/agent/lease-keeper.ts; how much is left is ipam/lease-clock.ts.

import { nextChange, renewalDelay, retryDelay } from '../ipam/lease-clock.ts';
import { leasePhase, termOf } from '../reconcile/saved-network.ts';
import type { AgentContext } from './agent-context.ts';
import type { LeaseRenewals } from './lease-renewals.ts';
import type { SimulatedMembership } from './membership.ts';
import { attempt } from './outcome.ts';
import type { Timer } from './scheduler.ts';

/** Node's timers stand still while a machine sleeps: the clock is looked at again at least this often, or more seldom. */
const LEAST_LOOK_MS = 250;

export interface LeaseKeeperDependencies {
  readonly context: AgentContext;
  readonly memberships: () => readonly SimulatedMembership[];
  readonly renewals: LeaseRenewals;
  /** Takes off everything that is attached from the prefix. */
  readonly withdraw: (membership: SimulatedMembership, prefix: string, isLost: boolean) => void;
}

export class SimulatedLeaseKeeper {
  readonly #dependencies: LeaseKeeperDependencies;
  #due = 0;
  #isRenewing = false;
  #termMs: number;
  #timer: Timer | undefined;

  constructor(dependencies: LeaseKeeperDependencies) {
    this.#dependencies = dependencies;
    this.#termMs = dependencies.context.pace.assumedTermMs;
  }

  /** Takes down what ended while no agent ran. */
  begin(): void {
    this.#carryOver();
    this.#enforce();
    this.#look();
  }

  renewSoon(): void {
    this.#due = 0;
    this.#lookIn(0);
  }

  /** Nothing that this node leases is its own any more. Throws when that cannot be written down. */
  loseAll(reason: string): void {
    for (const membership of this.#dependencies.memberships()) {
      const { leases } = membership.saved.document;
      for (const { prefix } of leases) membership.saved.changeLease(prefix, { lost: reason });
      if (leases.length === 0) membership.markLeaving();
    }
    this.#enforce();
  }

  #look(): void {
    const { leaseMoment: moment } = this.#dependencies.context;
    this.#carryOver();
    this.#enforce();
    if (moment().boot >= this.#due && !this.#isRenewing) this.#renew();
    const now = moment();
    const changes = this.#dependencies
      .memberships()
      .flatMap(({ saved }) =>
        saved.document.leases.map((lease) => nextChange(termOf(lease, now), now) ?? Number.POSITIVE_INFINITY),
      );
    const next = Math.min(...changes, this.#isRenewing ? Number.POSITIVE_INFINITY : this.#due);
    this.#lookIn(
      Math.max(LEAST_LOOK_MS, Math.min(this.#dependencies.context.pace.leaseLookMs, next - now.boot)),
    );
  }

  #lookIn(ms: number): void {
    this.#timer?.cancel();
    this.#timer = this.#dependencies.context.later(ms, 'looks at its leases', () => this.#look());
  }

  #carryOver(): void {
    const now = this.#dependencies.context.leaseMoment();
    for (const { saved } of this.#dependencies.memberships()) attempt(() => saved.carryOver(now));
  }

  #renew(): void {
    const { context, memberships, renewals } = this.#dependencies;
    const { control, name, identity, enter, leaseMoment: moment, calls, random, seen, hooks } = context;
    this.#isRenewing = true;
    calls.renew((finish) => {
      const held = memberships().filter(({ isLeaving }) => !isLeaving);
      const sent = moment();
      const told = seen.position;
      const holdings = held.map(({ saved }) => saved.holding(sent));
      renewals.began();
      control.call(
        name,
        'renews its leases',
        (registry) => registry.renewLeases(identity(), holdings, told),
        (outcome) =>
          enter(() => {
            this.#isRenewing = false;
            finish();
            if (!outcome.ok) {
              this.#due = moment().boot + retryDelay(this.#termMs);
              return;
            }
            const { termMs, answers, recovering } = outcome.answer;
            this.#termMs = termMs;
            const since = hooks.leasesFromAnswer ? moment() : sent;
            const written = attempt(() => {
              for (const { network, prefix, outcome: became, reason } of answers) {
                const membership = memberships().find((one) => one.network === network);
                if (became === 'renewed') membership?.saved.changeLease(prefix, { term: { termMs, since } });
                else if (became === 'lost') membership?.saved.changeLease(prefix, { lost: reason });
              }
            });
            if (!written.ok) {
              this.#due = moment().boot + retryDelay(termMs);
              return;
            }
            const isPending = answers.some(({ outcome: became }) => became === 'pending');
            if (!isPending) renewals.succeeded();
            this.#due =
              moment().boot +
              (recovering || isPending ? retryDelay(termMs) : renewalDelay(termMs, random.fraction()));
            for (const membership of memberships()) membership.claimsChanged();
            this.#look();
          }),
      );
    });
  }

  #enforce(): void {
    const { context, memberships, withdraw } = this.#dependencies;
    const now = context.leaseMoment();
    for (const membership of memberships()) {
      for (const lease of membership.saved.document.leases) {
        const phase = leasePhase(lease, now);
        if (phase !== 'ending' && phase !== 'ended') continue;
        attempt(() => {
          withdraw(membership, lease.prefix, lease.lost !== undefined);
          if (lease.lost !== undefined) membership.dropLease(lease.prefix);
          else if (phase === 'ended') membership.claimsChanged();
        });
      }
    }
  }
}
