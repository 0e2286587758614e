// Keeps what this node leases: renews all of it by one call, daily for leases of seven days, and sees to it that what
// cannot be renewed is used no more in time. How much is left is native-free/ipam/lease-clock.ts; which calls exclude each
// other, lease-calls.ts.

import { Code, ConnectError } from '@connectrpc/connect';
import type { Logger } from 'pino';
import type { Vl3Error } from '../../native-free/error.ts';
import {
  DEFAULT_TERM_MS,
  leftMs,
  nextChange,
  type Phase,
  renewalDelay,
  retryDelay,
  type Term,
} from '../../native-free/ipam/lease-clock.ts';
import { NETWORK } from '../../native-free/reconcile/documents.ts';
import { leasePhase, SavedNetwork, termOf } from '../../native-free/reconcile/saved-network.ts';
import type { SeenStore } from '../../native-free/reconcile/seen-store.ts';
import { domainOfKey, formatNetworkKey } from '../../native-free/registry/network-key.ts';
import { fromConnectError } from '../api/errors.ts';
import { type LeaseAnswer, LeaseAnswer_Outcome } from '../api/generated/vl3/v1/agent_pb.js';
import type { AgentClient } from '../registry/client.ts';
import { pause } from './backoff.ts';
import type { Clock } from './clock.ts';
import type { LeaseCalls } from './lease-calls.ts';
import { holdingMessage } from './lease-messages.ts';
import type { Networks } from './networks.ts';
import type { AgentState } from './state.ts';

const CALL_TIMEOUT_MS = 10_000;
/** However short the terms are that a partner's registry gives, it is asked no more often. */
const PARTNER_REST_MS = 5_000;
/** Node's timers stand still while the machine sleeps: the clock is looked at again at least this often. */
const LOOK_MS = 1_000;

export interface LeaseKeeperOptions {
  /** Whose networks: of their keys; undefined: the own. */
  readonly domain: string | undefined;
}

export interface LeaseKeeperDeps {
  readonly state: AgentState;
  readonly networks: () => Pick<Networks, 'all' | 'get' | 'pending'>;
  readonly clock: Clock;
  readonly calls: LeaseCalls;
  readonly client: () => AgentClient;
  readonly seen: SeenStore;
  /** Turns everything attached from the prefix into wishes. */
  readonly withdraw: (network: string, prefix: string, reason: string) => Promise<unknown>;
  /** Told what happened, in a sentence. */
  readonly report: (event: string) => void;
  readonly logger: Logger;
}

export interface LeaseView {
  readonly network: string;
  readonly prefix: string;
  readonly phase: Phase;
  readonly term: Term;
  readonly leftMs: number;
  /** Why it is not renewed, in a sentence; empty: it is. */
  readonly problem: string;
}

export class LeaseKeeper {
  readonly #domain: string | undefined;
  readonly #deps: LeaseKeeperDeps;
  readonly #phases = new Map<string, Phase>();
  /** What is being taken down now. */
  readonly #takingDown = new Set<string>();
  /** Why the registry could not renew a lease yet. */
  readonly #pending = new Map<string, string>();
  #termMs = DEFAULT_TERM_MS;
  /** CLOCK_BOOTTIME of the next renewal. */
  #due = 0;
  #wake: AbortController | undefined;
  #problem: Vl3Error | undefined;

  constructor({ domain }: LeaseKeeperOptions, deps: LeaseKeeperDeps) {
    this.#domain = domain;
    this.#deps = deps;
  }

  /** All leases of this node. */
  get leases(): LeaseView[] {
    const now = this.#deps.clock.moment();
    return this.#known().flatMap((saved) =>
      saved.document.leases.map((lease) => {
        const term = termOf(lease, now);
        return {
          network: saved.name,
          prefix: lease.prefix,
          phase: leasePhase(lease, now),
          term,
          leftMs: leftMs(term, now),
          problem: lease.lost ?? this.#pending.get(keyOf(saved.name, lease.prefix)) ?? '',
        };
      }),
    );
  }

  /** Why the last renewal failed; undefined: it did not. */
  get problem(): Vl3Error | undefined {
    return this.#problem;
  }

  /** Renews at once: something was joined, or the registry may not know what this node holds. */
  renewSoon(): void {
    this.#due = 0;
    this.#wake?.abort();
  }

  /** The registry answers again. */
  registryIsBack(): void {
    if (this.#problem !== undefined) this.renewSoon();
  }

  /** Takes down what ended while no agent ran. To be called before anything is restored. */
  async begin(): Promise<void> {
    const now = this.#deps.clock.moment();
    for (const saved of this.#known()) saved.carryOver(now);
    await Promise.all(this.#enforce());
  }

  /**
   * Nothing that this node leases is its own any more: takes all of it down, and leaves the networks, so that they are joined
   * anew.
   */
  async loseAll(reason: string): Promise<void> {
    const { report, logger, networks } = this.#deps;
    for (const saved of this.#all()) {
      for (const { prefix } of saved.document.leases) this.#change(saved.name, prefix, { lost: reason });
      if (saved.document.leases.length === 0) networks().get(saved.name)?.markLeaving();
    }
    report(`${reason}: what was attached is taken down, and attached anew as soon as it can be`);
    logger.error({ reason }, 'all prefixes lost');
    await Promise.all(this.#enforce());
  }

  /** Renews and enforces until `signal` aborts; never throws. */
  async run(signal: AbortSignal): Promise<void> {
    let renewing: Promise<void> | undefined;
    while (!signal.aborted) {
      this.#lookAtAll();
      if (this.#isAsking && this.#deps.clock.monotonic() >= this.#due) {
        // A renewal that hangs holds up no taking down.
        renewing ??= this.#renew(signal).finally(() => {
          renewing = undefined;
          this.#wake?.abort();
        });
      }
      this.#wake = new AbortController();
      await pause(this.#untilNext(renewing !== undefined), AbortSignal.any([signal, this.#wake.signal]));
    }
    await renewing;
  }

  #lookAtAll(): void {
    try {
      void this.#enforce();
      // Last: it may find that the disk is full, and what ends must end all the same.
      const now = this.#deps.clock.moment();
      for (const saved of this.#known()) saved.carryOver(now);
    } catch (error) {
      this.#deps.logger.error({ err: error }, 'leases could not be looked at');
    }
  }

  /** A partner on whose networks this node is not is not asked. */
  get #isAsking(): boolean {
    return this.#domain === undefined || this.#known().length > 0;
  }

  #untilNext(isRenewing: boolean): number {
    const now = this.#deps.clock.moment();
    const changes = this.leases.map(({ term }) => nextChange(term, now) ?? Number.POSITIVE_INFINITY);
    const next = Math.min(...changes, isRenewing || !this.#isAsking ? Number.POSITIVE_INFINITY : this.#due);
    return Math.max(1, Math.min(LOOK_MS, next - now.boot));
  }

  // --- renewing

  async #renew(signal: AbortSignal): Promise<void> {
    const { calls, logger } = this.#deps;
    this.#due = Number.POSITIVE_INFINITY;
    try {
      const { recovering, isPending } = await calls.renew(() => this.#ask(signal));
      this.#problem = undefined;
      const wait =
        recovering || isPending ? retryDelay(this.#termMs) : renewalDelay(this.#termMs, Math.random());
      this.#dueAfter(wait);
    } catch (error) {
      if (signal.aborted) return;
      const problem = fromConnectError(error);
      if (this.#problem?.message !== problem.message)
        logger.warn({ code: problem.code, reason: problem.message }, 'leases were not renewed');
      this.#problem = problem;
      this.#dueAfter(retryDelay(this.#termMs));
    }
  }

  /** Unless somebody asked for an earlier one meanwhile. */
  #dueAfter(waitMs: number): void {
    const rest = this.#domain === undefined ? waitMs : Math.max(waitMs, PARTNER_REST_MS);
    this.#due = Math.min(this.#due, this.#deps.clock.monotonic() + rest);
  }

  async #ask(signal: AbortSignal): Promise<{ recovering: boolean; isPending: boolean }> {
    const { clock, client, seen, logger } = this.#deps;
    const held = this.#all().filter(({ document }) => !document.isLeaving);
    const since = clock.moment();
    const told = seen.position;
    try {
      const answer = await client().renewLeases(
        { holdings: held.map((saved) => holdingMessage(saved.holding(since))), ...told },
        { signal, timeoutMs: CALL_TIMEOUT_MS },
      );
      this.#termMs = Number(answer.leaseTermMs) || DEFAULT_TERM_MS;
      for (const one of answer.answers) this.#take(one, { termMs: this.#termMs, since });
      logger.info({ answers: answer.answers.length, recovering: answer.recovering }, 'leases renewed');
      const isPending = answer.answers.some(({ outcome }) => outcome === LeaseAnswer_Outcome.PENDING);
      return { recovering: answer.recovering, isPending };
    } catch (error) {
      if (!isUnimplemented(error)) throw error;
      // A registry of an earlier version knows no end of leases.
      this.#termMs = DEFAULT_TERM_MS;
      for (const saved of held)
        for (const { prefix } of saved.document.leases)
          this.#change(saved.name, prefix, { term: { termMs: DEFAULT_TERM_MS, since } });
      return { recovering: false, isPending: false };
    }
  }

  #take({ network: name, prefix, outcome, reason }: LeaseAnswer, term: Term): void {
    const { report, logger } = this.#deps;
    const network = formatNetworkKey({ network: name, domain: this.#domain });
    const key = keyOf(network, prefix);
    this.#pending.delete(key);
    if (outcome === LeaseAnswer_Outcome.RENEWED) this.#change(network, prefix, { term });
    else if (outcome === LeaseAnswer_Outcome.PENDING) this.#pending.set(key, reason);
    else if (outcome === LeaseAnswer_Outcome.LOST) {
      this.#change(network, prefix, { lost: reason || 'the registry says that it is not of this node' });
      report(`prefix ${prefix} of network ${network} was lost: ${reason}`);
      logger.error({ network, prefix, reason }, 'prefix lost');
    }
  }

  #change(
    network: string,
    prefix: string,
    change: { readonly term: Term } | { readonly lost: string },
  ): void {
    this.#all()
      .find(({ name }) => name === network)
      ?.changeLease(prefix, change);
  }

  // --- enforcing

  /** Starts to take down what has to be; what is being taken down already goes on. */
  #enforce(): Promise<void>[] {
    const now = this.#deps.clock.moment();
    const started: Promise<void>[] = [];
    for (const saved of this.#known()) {
      for (const lease of saved.document.leases) {
        const phase = leasePhase(lease, now);
        this.#noticePhase(saved.name, lease.prefix, phase);
        if (phase !== 'ending' && phase !== 'ended') continue;
        const key = keyOf(saved.name, lease.prefix);
        if (this.#takingDown.has(key)) continue;
        this.#takingDown.add(key);
        const done = this.#takeDown(saved.name, lease.prefix, lease.lost).finally(() =>
          this.#takingDown.delete(key),
        );
        started.push(done);
      }
    }
    return started;
  }

  #noticePhase(network: string, prefix: string, phase: Phase): void {
    const key = keyOf(network, prefix);
    const before = this.#phases.get(key) ?? 'good';
    if (phase === before) return;
    this.#phases.set(key, phase);
    this.#deps.logger.warn({ network, prefix, before, phase }, 'lease changed its phase');
    if (phase === 'ending')
      this.#deps.report(
        `the lease of ${prefix} of network ${network} could not be renewed: what was attached from it is taken down`,
      );
    if (phase === 'ended' || before === 'ended') this.#deps.networks().get(network)?.claimsChanged();
  }

  async #takeDown(network: string, prefix: string, lost: string | undefined): Promise<void> {
    const { networks, withdraw, logger } = this.#deps;
    const reason =
      lost === undefined
        ? `the lease of ${prefix} could not be renewed, since the registry does not answer: it is attached again when it does`
        : `this node lost ${prefix}: ${lost}`;
    try {
      await withdraw(network, prefix, reason);
      if (lost === undefined) return;
      const membership = networks().get(network);
      if (membership === undefined || !(await membership.dropLease(prefix))) return;
      this.#phases.delete(keyOf(network, prefix));
      logger.info({ network, prefix }, 'lost prefix is out of use');
      // Whoever wants to be on it joins it anew, as what it is now.
      if (membership.prefixes.length === 0) membership.markLeaving();
    } catch (error) {
      logger.error({ err: error, network, prefix }, 'prefix could not be taken down; it is tried again');
    }
  }

  // --- what there is

  /** The networks this node is on, as their memberships share them; those that could not be opened, from the disk. */
  #known(): SavedNetwork[] {
    const { networks, state } = this.#deps;
    const { all, pending } = networks();
    const open = all.filter(({ network }) => this.#isOurs(network)).map(({ saved }) => saved);
    const closed = [...pending.keys()].filter(
      (name) =>
        this.#isOurs(name) && networks().get(name) === undefined && state.get(NETWORK, name) !== undefined,
    );
    return [...open, ...closed.map((name) => new SavedNetwork(name, state))];
  }

  /** As `#known`, and those that are being opened. */
  #all(): SavedNetwork[] {
    const { networks, state } = this.#deps;
    return state
      .list(NETWORK)
      .filter(({ name }) => this.#isOurs(name))
      .map(({ name }) => networks().get(name)?.saved ?? new SavedNetwork(name, state));
  }

  #isOurs(network: string): boolean {
    return domainOfKey(network) === this.#domain;
  }
}

const keyOf = (network: string, prefix: string): string => `${network} ${prefix}`;

const isUnimplemented = (error: unknown): boolean => {
  const { cause } = fromConnectError(error);
  return cause instanceof ConnectError && cause.code === Code.Unimplemented;
};
