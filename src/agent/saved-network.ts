// The document of a network this node is on, as its parts share it while the network is up: read from memory, and every
// change written down before it counts.

import { Vl3Error } from '../../native-free/error.ts';
import {
  carriedOver,
  type Phase,
  phaseOf,
  type Term,
  unknownTerm,
} from '../../native-free/ipam/lease-clock.ts';
import { type Prefix, parsePrefix } from '../../native-free/ipam/prefix.ts';
import type { Moment } from '../../native-free/moment.ts';
import { type LeaseDocument, NETWORK, type NetworkDocument } from '../../native-free/reconcile/documents.ts';
import type { PrefixClaim } from '../../native-free/registry/record.ts';
import type { AgentState } from './state.ts';

export class SavedNetwork {
  readonly name: string;
  readonly #state: AgentState;
  #document: NetworkDocument;

  /** Throws when nothing was saved under the name. */
  constructor(name: string, state: AgentState) {
    const document = state.get(NETWORK, name);
    if (document === undefined) throw new Vl3Error('internal', `there is no document of ${name}`);
    this.name = name;
    this.#state = state;
    this.#document = document;
  }

  get document(): NetworkDocument {
    return this.#document;
  }

  change(change: Partial<NetworkDocument>): void {
    const document = { ...this.#document, ...change };
    this.#state.put(NETWORK, this.name, document);
    this.#document = document;
  }

  /** All writes of `work` are kept, or none, and then nothing has changed here either. */
  transact(work: () => void): void {
    const before = this.#document;
    try {
      this.#state.transact(work);
    } catch (error) {
      this.#document = before;
      throw error;
    }
  }

  get pools(): Prefix[] {
    const { poolV4, poolV6 } = this.#document;
    return [poolV4, poolV6].filter((pool) => pool !== '').map(parsePrefix);
  }

  /** What this node leases, oldest first. */
  get prefixes(): Prefix[] {
    return this.#document.leases.map(({ prefix }) => parsePrefix(prefix));
  }

  get excluded(): Prefix[] {
    return this.#document.excludedPrefixes.map(parsePrefix);
  }

  // --- how long the leases hold

  /** Lets the terms run on in this boot. To be called at a start, and now and then in case the clock was wrong then. */
  carryOver(now: Moment): void {
    const carried = this.#document.leases.map((lease) => carriedOver(termOf(lease, now), now));
    const isKnown = carried.every((term, i) => term === this.#document.leases[i]?.term);
    if (isKnown) return;
    this.change({
      leases: this.#document.leases.map((lease, i) => ({ ...lease, term: carried[i] ?? unknownTerm(now) })),
    });
  }

  /** What the node announces and holds against the claims of others. */
  claims(now: Moment): PrefixClaim[] {
    return this.#document.leases
      .filter((lease) => leasePhase(lease, now) !== 'ended')
      .map(({ prefix, leasedAt }) => ({ prefix, leasedAt }));
  }

  /** What nothing may be allocated from. */
  closing(now: Moment): Prefix[] {
    return this.#document.leases
      .filter((lease) => leasePhase(lease, now) !== 'good')
      .map(({ prefix }) => parsePrefix(prefix));
  }

  /** Changes nothing when the prefix is not leased. */
  changeLease(prefix: string, change: Partial<Pick<LeaseDocument, 'term' | 'lost'>>): void {
    if (!this.#document.leases.some((lease) => lease.prefix === prefix)) return;
    this.change({
      leases: this.#document.leases.map((lease) =>
        lease.prefix === prefix ? { ...lease, ...change } : lease,
      ),
    });
  }
}

/** Of a lease that an earlier version wrote down nothing else is known. */
export const termOf = ({ term }: LeaseDocument, now: Moment): Term => term ?? unknownTerm(now);

/** What was lost is over, whatever its term. */
export const leasePhase = (lease: LeaseDocument, now: Moment): Phase =>
  lease.lost === undefined ? phaseOf(termOf(lease, now), now) : 'ended';
