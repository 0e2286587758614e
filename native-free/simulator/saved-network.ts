// The document of a network a simulated node is on, shared by its parts: read from memory, and every change written down
// before it counts. The twin of src/agent/saved-network.ts.

import { Vl3Error } from '../error.ts';
import { carriedOver, mayHaveEnded, type Phase, phaseOf } from '../ipam/lease-clock.ts';
import { type Prefix, parsePrefix } from '../ipam/prefix.ts';
import type { Moment } from '../moment.ts';
import type { Holding } from '../registry/renewal-rules.ts';
import { type Documents, NETWORK, type SavedLease, type SavedNetwork } from './documents.ts';

export class SharedNetwork {
  readonly name: string;
  readonly #documents: Documents;
  #document: SavedNetwork;

  /** Throws when nothing was saved under the name. */
  constructor(name: string, documents: Documents) {
    const document = documents.get(NETWORK, name);
    if (document === undefined) throw new Vl3Error('internal', `there is no document of ${name}`);
    this.name = name;
    this.#documents = documents;
    this.#document = document;
  }

  get document(): SavedNetwork {
    return this.#document;
  }

  change(change: Partial<SavedNetwork>): void {
    const document = { ...this.#document, ...change };
    this.#documents.put(NETWORK, this.name, document);
    this.#document = document;
  }

  /** All writes are kept, or none, and then nothing has changed here either. */
  transact(work: () => void): void {
    const before = this.#document;
    try {
      this.#documents.transact(work);
    } catch (error) {
      this.#document = before;
      throw error;
    }
  }

  get pools(): Prefix[] {
    return this.#document.pools.map(parsePrefix);
  }

  get excluded(): Prefix[] {
    return this.#document.definition.excluded.map(parsePrefix);
  }

  // --- how long the leases hold

  /** Lets the terms run on in this boot. */
  carryOver(now: Moment): void {
    const { leases } = this.#document;
    const carried = leases.map((lease) => ({ ...lease, term: carriedOver(lease.term, now) }));
    if (carried.some(({ term }, i) => term !== leases[i]?.term)) this.change({ leases: carried });
  }

  /** What the node announces and holds against the claims of others. */
  claims(now: Moment): { readonly prefix: string; readonly leasedAt: number }[] {
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

  changeLease(prefix: string, change: Partial<Pick<SavedLease, 'term' | 'isLost'>>): void {
    if (!this.#document.leases.some((lease) => lease.prefix === prefix)) return;
    const leases = this.#document.leases.map((lease) =>
      lease.prefix === prefix ? { ...lease, ...change } : lease,
    );
    this.change({ leases });
  }

  /** What this node says it holds, as in src/agent/lease-messages.ts. */
  holding(now: Moment): Holding {
    const { definition, leases } = this.#document;
    return {
      network: definition,
      leases: leases
        .filter(({ isLost }) => !isLost)
        .map(({ prefix, leasedAt, term }) => ({ prefix, leasedAt, isExpired: mayHaveEnded(term, now) })),
    };
  }
}

/** What was lost is over, whatever its term. */
export const leasePhase = ({ isLost, term }: SavedLease, now: Moment): Phase =>
  isLost ? 'ended' : phaseOf(term, now);
