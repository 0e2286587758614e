// What must hold whatever happens, judged from outside with knowledge that no node has. Some are judged the moment
// something happens, some now and then, some when all faults are over. The first one broken ends the run.

import { toBase64 } from '../base64.ts';
import type { Endpoint } from '../device/data-plane.ts';
import { type Prefix, parseAddress, parsePrefix, prefixContains, prefixesOverlap } from '../ipam/prefix.ts';
import { partsOf } from '../registry/keys.ts';
import { isHeld } from '../registry/lease-phase.ts';
import { decodeValue, lease as leaseSchema } from '../registry/model.ts';
import type { Batch, ReadResult } from '../registry/transaction.ts';
import { Counters } from './counters.ts';

export const INVARIANTS = [
  'no address twice',
  'no address outside its lease',
  'no prefix twice',
  'no packet astray',
  'no endpoint but the peer’s own',
  'no acknowledged write lost',
  'no queue without bound',
  'no livelock',
  'no leftovers',
  'convergence',
  'no exception escapes',
  'no outage stops anything',
  'no token twice',
  'no packet past admission',
  'no allowed IP beyond its grant',
  'no partner after its revocation',
  'no identity but its domain’s own',
  'no lease longer than granted',
  'no prefix out of quarantine early',
  'prefixes come back',
] as const;
export type Invariant = (typeof INVARIANTS)[number];

export class Violation extends Error {
  readonly invariant: Invariant;

  constructor(invariant: Invariant, message: string) {
    super(message);
    this.name = 'Violation';
    this.invariant = invariant;
  }
}

interface Holder {
  readonly node: string;
  readonly attachmentId: string;
  readonly namespace: string;
  readonly since: number;
}

export interface Delivery {
  /** What the packet says of itself. */
  readonly sent: {
    readonly network: string;
    readonly to: string;
    readonly from: string;
    readonly at: number;
    readonly fromAddress: string;
  };
  readonly network: string;
  readonly pod: string;
  readonly source: string;
  readonly destination: string;
  /** Those that it left, was meant for and came to. */
  readonly machines: readonly string[];
}

/** Whether a node takes this prefix, or the prefix around this address, for its own and may have attachments there. */
export type Uses = (node: string, network: string, prefixOrAddress: string) => boolean;

export class Invariants {
  /** Sees what the registry wrote, or holds at a start, once that was judged. */
  watcher: { written(batch: Batch): void; opened(found: ReadResult): void } | undefined;
  /** How often each was judged. */
  readonly judged = new Counters();
  readonly #now: () => number;
  readonly #uses: Uses;
  readonly #quarantineMs: number;
  /** When leases were put in quarantine, by key. */
  readonly #endedAt = new Map<string, number>();
  readonly #holders = new Map<string, Holder>();
  readonly #leases = new Map<
    string,
    { readonly network: string; readonly node: string; readonly prefix: Prefix }
  >();
  readonly #deleted = new Set<string>();
  /** The registry's transactions by revision, as it was about to write them. */
  readonly #batches = new Map<number, Batch>();
  #base = new Map<string, string>();
  #baseRevision = 0;
  #observedRevision = 0;
  #isReplaced = false;
  #wasReplaced = false;
  #acknowledgedRevision = 0;

  constructor(now: () => number, uses: Uses, quarantineMs: number) {
    this.#quarantineMs = quarantineMs;
    this.#now = now;
    this.#uses = uses;
  }

  /** Judges one fact. `message` is made only when it does not hold. */
  judge(invariant: Invariant, holds: boolean, message: () => string): void {
    this.judged.add(invariant);
    if (!holds) throw new Violation(invariant, message());
  }

  // --- addresses

  connected(
    node: string,
    network: string,
    id: string,
    namespace: string,
    addresses: readonly string[],
  ): void {
    for (const address of addresses) {
      const key = `${network} ${address}`;
      if (this.#deleted.has(node)) continue;
      const holder = this.#holders.get(key);
      this.judge('no address twice', holder === undefined, () => {
        const who = `attachment ${holder?.attachmentId} on ${holder?.node}`;
        return `${address} of ${network} is given to attachment ${id} on ${node}, and ${who} holds it`;
      });
      this.#holders.set(key, { node, attachmentId: id, namespace, since: this.#now() });
      // A registry that lost its memory may learn of it only later.
      const isKnown =
        this.#wasReplaced ||
        [...this.#leases.values()].some(
          (lease) =>
            lease.network === network &&
            lease.node === node &&
            prefixContains(lease.prefix, parseAddress(address)),
        );
      const isLeased = isKnown && this.#uses(node, network, address);
      this.judge(
        'no address outside its lease',
        isLeased,
        () => `${address} of ${network} is used on ${node}, which leases no prefix around it`,
      );
    }
  }

  disconnected(network: string, id: string, addresses: readonly string[]): void {
    for (const address of addresses) {
      const key = `${network} ${address}`;
      if (this.#holders.get(key)?.attachmentId === id) this.#holders.delete(key);
    }
  }

  /** An admin says that the node is gone: what it still holds is nobody's, and others may be given it. */
  deleted(node: string): void {
    this.#deleted.add(node);
    for (const [key, holder] of this.#holders) if (holder.node === node) this.#holders.delete(key);
  }

  /** Nothing is left of what a deleted node held. */
  cleaned(node: string): void {
    this.#deleted.delete(node);
  }

  // --- the registry's store

  /** The registry is about to write this. */
  writing(batch: Batch): void {
    this.#batches.set(batch.revision, batch);
  }

  /** It is written, and the registry says so. */
  written(batch: Batch): void {
    this.#observedRevision = batch.revision;
    this.watcher?.written(batch);
    for (const { key, value } of batch.changes) {
      if (partsOf(key)[0] !== 'leases') continue;
      if (value === undefined) {
        this.#judgePurged(key);
        this.#freed(key);
      } else this.#leased(key, value);
    }
  }

  acknowledged(revision: number): void {
    this.#acknowledgedRevision = Math.max(this.#acknowledgedRevision, revision);
  }

  /** Somebody put another store in the place of the registry's: it need not know what it acknowledged. */
  replaced(): void {
    this.#isReplaced = true;
    this.#wasReplaced = true;
  }

  /** The registry runs again: what it holds must be all it ever acknowledged, and nothing that it was not told. */
  opened(found: ReadResult): void {
    const { revision, entries } = found;
    this.watcher?.opened(found);
    if (this.#isReplaced) this.#takeOver(revision, entries);
    this.judge(
      'no acknowledged write lost',
      revision >= this.#acknowledgedRevision,
      () => `the registry is back at revision ${revision} and had acknowledged ${this.#acknowledgedRevision}`,
    );
    const last = this.#batches.get(revision);
    if (last !== undefined && revision === this.#observedRevision + 1) this.written(last);
    for (let at = this.#baseRevision + 1; at <= revision; at++) {
      for (const { key, value } of this.#batches.get(at)?.changes ?? []) {
        if (value === undefined) this.#base.delete(key);
        else this.#base.set(key, toBase64(value));
      }
    }
    this.#baseRevision = revision;
    this.#batches.clear();
    const held = new Map(entries.map(({ key, value }) => [key, toBase64(value)]));
    for (const key of new Set([...held.keys(), ...this.#base.keys()]))
      this.judge(
        'no acknowledged write lost',
        held.get(key) === this.#base.get(key),
        () => `the registry is back with another value at ${key} than it had at revision ${revision}`,
      );
  }

  #takeOver(revision: number, entries: ReadResult['entries']): void {
    this.#isReplaced = false;
    this.#leases.clear();
    this.#endedAt.clear();
    for (const { key, value } of entries) if (partsOf(key)[0] === 'leases') this.#leased(key, value);
    this.#base = new Map(entries.map(({ key, value }) => [key, toBase64(value)]));
    this.#baseRevision = revision;
    this.#observedRevision = revision;
    this.#acknowledgedRevision = revision;
    this.#batches.clear();
  }

  /** By leaving, which a node may do when nothing of it is attached. */
  #freed(key: string): void {
    const freed = this.#leases.get(key);
    this.#leases.delete(key);
    if (freed === undefined) return;
    for (const [held, { node, attachmentId }] of this.#holders) {
      const [network, address = ''] = held.split(' ');
      const isInside =
        node === freed.node &&
        network === freed.network &&
        prefixContains(freed.prefix, parseAddress(address));
      this.judge(
        'no address outside its lease',
        // Who was stopped until its lease had ended takes it down before anything else.
        !isInside || !this.#uses(node, network, address),
        () => `${key} was freed while attachment ${attachmentId} of ${node} holds ${address}`,
      );
    }
  }

  #judgePurged(key: string): void {
    const endedAt = this.#endedAt.get(key);
    this.#endedAt.delete(key);
    if (endedAt === undefined) return;
    this.judge(
      'no prefix out of quarantine early',
      this.#now() - endedAt >= this.#quarantineMs,
      () => `${key} is free ${this.#now() - endedAt} ms after its lease ended, in spite of its quarantine`,
    );
  }

  /** A node stops using a prefix before the registry's term is over. */
  #judgeEnded(network: string, node: string, prefix: string): void {
    this.judge(
      'no lease longer than granted',
      this.#deleted.has(node) || !this.#uses(node, network, prefix),
      () => `the lease of ${prefix} of ${network} is over by the registry's clock, and ${node} uses it still`,
    );
  }

  #leased(key: string, value: Uint8Array): void {
    const lease = decodeValue(leaseSchema, value, key);
    const { network, node, prefix } = lease;
    if (!isHeld(lease)) {
      this.#endedAt.delete(key);
      this.#freed(key);
      return;
    }
    if (lease.endedAt === undefined) this.#endedAt.delete(key);
    else if (!this.#endedAt.has(key)) {
      this.#endedAt.set(key, this.#now());
      this.#judgeEnded(network, node, prefix);
    }
    const parsed = parsePrefix(prefix);
    const other = [...this.#leases.values()].find(
      (lease) => lease.network === network && lease.node !== node && prefixesOverlap(lease.prefix, parsed),
    );
    this.judge(
      'no prefix twice',
      other === undefined,
      () => `${prefix} of ${network} is leased to ${node}, and ${other?.node} holds it`,
    );
    this.#leases.set(key, { network, node, prefix: parsed });
  }

  // --- packets

  /** True when it came to whom it was for; false when an address changed hands while it was under way. */
  delivered({ sent, network, pod, source, destination, machines }: Delivery): boolean {
    this.judge(
      'no packet astray',
      sent.network === network,
      () => `a packet of ${sent.from} on ${sent.network} came out on ${network} at ${pod}`,
    );
    const since = this.#holders.get(`${network} ${destination}`)?.since ?? Number.POSITIVE_INFINITY;
    // What was deleted has what is another's by now, until it hears of that.
    const isOfDeleted = machines.some((machine) => this.#deleted.has(machine));
    this.judge(
      'no packet astray',
      sent.to === pod || since > sent.at || isOfDeleted,
      () => `a packet of ${sent.from} to ${sent.to} (${destination} of ${network}) came out at ${pod}`,
    );
    this.judge(
      'no packet astray',
      sent.fromAddress === source,
      () => `a packet of ${sent.from} left as ${sent.fromAddress} and arrived as ${source}`,
    );
    return sent.to === pod;
  }

  endpointLearned(node: string, peer: string, endpoint: Endpoint, isOwn: boolean): void {
    this.judge(
      'no endpoint but the peer’s own',
      isOwn,
      () => `${node} sends to ${peer} at ${endpoint.address}:${endpoint.port}, where ${peer} never was`,
    );
  }

  bounded(what: string, size: number, bound: number): void {
    this.judge(
      'no queue without bound',
      size <= bound,
      () => `${what}: ${size}, and at most ${bound} is sane`,
    );
  }
}
