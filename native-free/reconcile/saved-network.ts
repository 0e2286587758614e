// The document of a network this node is on, as its parts share it while the network is up: what it means and how it
// changes. Read from memory, and every change written down before it counts.

import { Vl3Error } from '../error.ts';
import {
  carriedOver,
  mayHaveEnded,
  type Phase,
  phaseOf,
  type Term,
  unknownTerm,
} from '../ipam/lease-clock.ts';
import { type Family, type Prefix, parsePrefix } from '../ipam/prefix.ts';
import type { Moment } from '../moment.ts';
import type { Network } from '../registry/model.ts';
import type { PrefixClaim } from '../registry/record.ts';
import type { Holding } from '../registry/renewal-rules.ts';
import type { DocumentStore } from './document-store.ts';
import { type LeaseDocument, NETWORK, type NetworkDocument } from './documents.ts';

export class SavedNetwork {
  readonly name: string;
  readonly #documents: DocumentStore;
  #document: NetworkDocument;

  /** Throws when nothing was saved under the name. */
  constructor(name: string, documents: DocumentStore) {
    const document = documents.get(NETWORK, name);
    if (document === undefined) throw new Vl3Error('internal', `there is no document of ${name}`);
    this.name = name;
    this.#documents = documents;
    this.#document = document;
  }

  get document(): NetworkDocument {
    return this.#document;
  }

  change(change: Partial<NetworkDocument>): void {
    const document = { ...this.#document, ...change };
    this.#documents.put(NETWORK, this.name, document);
    this.#document = document;
  }

  /** All writes of `work` are kept, or none, and then nothing has changed here either. */
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

  /** What the registry may change; it never changes the pools and the uid. */
  redefine(network: Network): void {
    this.change(definitionOf(network));
  }

  /** Attachments came or went. */
  used(isEmpty: boolean, wall: number): void {
    if (isEmpty !== this.#document.emptySince > 0) this.change({ emptySince: isEmpty ? wall : 0 });
  }

  // --- what is leased

  /**
   * Names the request for another prefix. Asked again because an answer got lost, or the agent died, the registry gives the
   * same prefix for the same name.
   */
  requestId(family: Family, fresh: () => string): string {
    const { leaseRequests = {} } = this.#document;
    const known = leaseRequests[family];
    if (known !== undefined) return known;
    const requestId = fresh();
    this.change({ leaseRequests: { ...leaseRequests, [family]: requestId } });
    return requestId;
  }

  /** The registry answered the request. What was given back and is had anew is not to be given back any more. */
  leased(lease: LeaseDocument, family: Family): void {
    const { leaseRequests: { [family]: _, ...leaseRequests } = {}, leases, returning } = this.#document;
    const others = leases.filter(({ prefix }) => prefix !== lease.prefix);
    const left = returning?.filter((prefix) => prefix !== lease.prefix);
    this.change({ leases: [...others, lease], leaseRequests, ...(left && { returning: left }) });
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

  /** The prefix is not this node's any more. */
  forgetLease(prefix: string, change: Pick<Partial<NetworkDocument>, 'returning'> = {}): void {
    this.change({ leases: this.#document.leases.filter((lease) => lease.prefix !== prefix), ...change });
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

  /**
   * What this node says it holds: the network as it last heard of it, and the leases that were not lost. One that may have
   * ended is named as expired: while no registry answered, it can have become another's.
   */
  holding(now: Moment): Holding {
    return {
      network: networkOf(this.#document),
      isRestricted: this.#document.isRestricted,
      leases: this.#document.leases
        .filter(({ lost }) => lost === undefined)
        .map(({ prefix, leasedAt, term }) => ({
          prefix,
          leasedAt,
          isExpired: term !== undefined && mayHaveEnded(term, now),
        })),
    };
  }
}

/** Of a lease that an earlier version wrote down nothing else is known. */
export const termOf = ({ term }: LeaseDocument, now: Moment): Term => term ?? unknownTerm(now);

/** What was lost is over, whatever its term. */
export const leasePhase = (lease: LeaseDocument, now: Moment): Phase =>
  lease.lost === undefined ? phaseOf(termOf(lease, now), now) : 'ended';

/** Of a network that was just joined. */
export const newNetwork = (
  network: Network,
  leases: LeaseDocument[],
  {
    privateKey,
    wall,
    joinedAt,
  }: { readonly privateKey: string; readonly wall: number; readonly joinedAt: number },
): NetworkDocument => ({
  name: network.name,
  uid: network.uid,
  poolV4: network.poolV4 ?? '',
  poolV6: network.poolV6 ?? '',
  ...definitionOf(network),
  joinedAt,
  isRestricted: false,
  rulesetVersion: 0,
  leases,
  privateKey,
  timestampMark: '',
  recordSequence: 0,
  emptySince: wall,
  isLeaving: false,
  allocator: { prefixes: [] },
});

type Definition = Pick<
  NetworkDocument,
  'excludedPrefixes' | 'mtu' | 'nodePrefixLengthV4' | 'nodePrefixLengthV6' | 'createdAt'
>;

const definitionOf = (network: Network): Definition => ({
  excludedPrefixes: [...network.excluded],
  mtu: network.mtu,
  nodePrefixLengthV4: network.nodePrefixLengthV4 ?? 0,
  nodePrefixLengthV6: network.nodePrefixLengthV6 ?? 0,
  createdAt: network.createdAt,
});

const networkOf = (document: NetworkDocument): Network => {
  const { name, uid, poolV4, poolV6, nodePrefixLengthV4, nodePrefixLengthV6, mtu, createdAt } = document;
  return {
    name,
    uid,
    ...(poolV4 !== '' && { poolV4 }),
    ...(poolV6 !== '' && { poolV6 }),
    ...(nodePrefixLengthV4 !== 0 && { nodePrefixLengthV4 }),
    ...(nodePrefixLengthV6 !== 0 && { nodePrefixLengthV6 }),
    excluded: document.excludedPrefixes,
    mtu,
    createdAt,
  };
};
