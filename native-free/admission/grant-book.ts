// What the home domain has granted the nodes of one network: verified, the latest of each, and kept over restarts as the
// exact bytes. One holds until a later one or its end; that the registry does not list it any more changes nothing.
//
// As with records (registry/record-book.ts) validity is judged by the wall clock once, when a grant is accepted, and runs
// on CLOCK_BOOTTIME from then on.

import { hostPrefix, type Prefix, parseAddress, parsePrefix, prefixCovers } from '../ipam/prefix.ts';
import type { Moment } from '../moment.ts';
import { readNodeKey } from '../registry/node-key.ts';
import type { SignedRecord } from '../registry/record.ts';
import { type DecodedGrant, decodeVerifiedGrant, type Grant, type VerifyGrant } from './grant.ts';

export interface SavedGrant {
  readonly node: string;
  readonly signed: SignedRecord;
  readonly acceptedAt: Moment;
}

export interface GrantBookOptions {
  readonly network: string;
  readonly networkUid: string;
  /** The trust domain whose the network is, which grants: nodes of others are called `<node>@<domain>`. */
  readonly home: string;
}

export interface GrantBookDependencies {
  readonly saved: {
    list(): Iterable<SavedGrant>;
    put(node: string, signed: SignedRecord, acceptedAt: Moment): void;
    delete(node: string): void;
  };
  readonly verify: VerifyGrant;
  readonly report: (node: string, reason: string) => void;
}

/** A clock that moved by more than this against CLOCK_BOOTTIME was set. */
const JUMP_MS = 1000;
/** What was refused is looked at again this often, since time alone may have made it valid. */
const RETRY_MS = 60_000;

interface Known {
  readonly grant: Grant;
  readonly granted: Granted;
  /** What it leases; undefined: the grant does not say. */
  readonly leased: readonly Prefix[] | undefined;
  /** In the present boot. */
  readonly acceptedAt: Moment;
}

/** 'whole': all that its record says. */
export type Granted = 'whole' | readonly Prefix[];

const NOTHING: Granted = [];

export class GrantBook {
  readonly #options: GrantBookOptions;
  readonly #dependencies: GrantBookDependencies;
  readonly #grants = new Map<string, Known>();
  /** What did not hold at the time, by node, newest only: the clock may have been wrong. */
  readonly #parked = new Map<string, SignedRecord>();
  #parkedAt: Moment;
  readonly #refused = new Map<string, string>();
  /** When one that holds now ends, on CLOCK_BOOTTIME. */
  #nextEnd = Number.POSITIVE_INFINITY;

  constructor(options: GrantBookOptions, dependencies: GrantBookDependencies, now: Moment) {
    this.#options = options;
    this.#dependencies = dependencies;
    this.#parkedAt = now;
    for (const { node, signed, acceptedAt } of dependencies.saved.list()) {
      const at = acceptedAt.bootId === now.bootId ? acceptedAt : now;
      this.#take(node, signed, at, at !== acceptedAt);
    }
  }

  /** Takes one that the registry gave for `node`. True when it changed what is granted. */
  accept(node: string, signed: SignedRecord, now: Moment): boolean {
    return this.#take(node, signed, now, true);
  }

  /** Looks again at what was refused. True when something is granted otherwise than before, also since one has ended. */
  retry(now: Moment): boolean {
    let changed = now.boot >= this.#nextEnd;
    if (changed) this.#noteEnds(now);
    const passed = now.boot - this.#parkedAt.boot;
    if (Math.abs(now.wall - this.#parkedAt.wall - passed) < JUMP_MS && passed < RETRY_MS) return changed;
    this.#parkedAt = now;
    for (const [node, signed] of [...this.#parked]) changed = this.#take(node, signed, now, true) || changed;
    return changed;
  }

  /** Another bundle of the home holds: what it signed is looked at again. True when something is granted otherwise. */
  trustChanged(): boolean {
    let changed = false;
    for (const { node, signed } of this.#dependencies.saved.list()) {
      const known = this.#grants.get(node);
      // By when it was accepted: a clock that was set since decides nothing here.
      const decoded = known && this.#decode(node, signed, known.acceptedAt.wall);
      if (decoded?.kind !== 'refused') continue;
      this.#grants.delete(node);
      this.#refuse(node, signed, decoded.message);
      changed = true;
    }
    return changed;
  }

  /** Nothing, unless it was granted and that holds. `asLease`: nor by a grant that does not say what the node leases. */
  of(node: string, now: Moment, asLease = false): Granted {
    const known = this.#holding(node, now);
    if (known === undefined || (asLease && known.leased === undefined)) return NOTHING;
    return known.granted;
  }

  /** What the signer of the domain leased to the node. */
  leased(node: string, now: Moment): readonly Prefix[] {
    return this.#holding(node, now)?.leased ?? [];
  }

  /** Grants that were refused, with the reason. */
  get refusals(): ReadonlyMap<string, string> {
    return this.#refused;
  }

  clear(): void {
    for (const node of new Set([...this.#grants.keys(), ...this.#parked.keys()]))
      this.#dependencies.saved.delete(node);
    this.#grants.clear();
    this.#parked.clear();
    this.#refused.clear();
  }

  #holding(node: string, now: Moment): Known | undefined {
    const known = this.#grants.get(node);
    return known === undefined || endOf(known) <= now.boot ? undefined : known;
  }

  #take(node: string, signed: SignedRecord, now: Moment, isToBeSaved: boolean): boolean {
    const decoded = this.#decode(node, signed, now.wall);
    if (decoded.kind === 'refused') return this.#refuse(node, signed, decoded.message);
    this.#parked.delete(node);
    this.#refused.delete(node);
    const { grant } = decoded;
    const known = this.#grants.get(node);
    // One that has ended stands in nobody's way: it was signed by a clock that was ahead, by a registry that has lost its
    // memory since.
    const isOlder = known !== undefined && known.grant.sequence >= grant.sequence;
    if (isOlder && endOf(known) > now.boot) return false;
    this.#grants.set(node, { grant, ...readContent(grant), acceptedAt: now });
    if (isToBeSaved) this.#dependencies.saved.put(node, signed, now);
    this.#noteEnds(now);
    return known === undefined || contentOf(known.grant) !== contentOf(grant) || endOf(known) <= now.boot;
  }

  #refuse(node: string, signed: SignedRecord, reason: string): false {
    this.#parked.set(node, signed);
    if (this.#refused.get(node) === reason) return false;
    this.#refused.set(node, reason);
    this.#dependencies.report(node, reason);
    return false;
  }

  #decode(key: string, signed: SignedRecord, now: number): DecodedGrant {
    const { network, networkUid, home } = this.#options;
    const named = readNodeKey(home, key);
    if (named === undefined) return { kind: 'refused', message: 'the registry names a node that is none' };
    const { node, trustDomain: nodeDomain } = named;
    const expected = { network, networkUid, node, nodeDomain };
    const decoded = decodeVerifiedGrant(signed, this.#dependencies.verify, now, expected);
    if (decoded.kind === 'refused' || decoded.grant.trustDomain === home) return decoded;
    return {
      kind: 'refused',
      message: `${decoded.grant.trustDomain} grants nothing on a network of ${home}`,
    };
  }

  #noteEnds(now: Moment): void {
    const ends = [...this.#grants.values()].map(endOf).filter((end) => end > now.boot);
    this.#nextEnd = Math.min(...ends, Number.POSITIVE_INFINITY);
  }
}

const endOf = ({ grant, acceptedAt }: Known): number => acceptedAt.boot + (grant.notAfter - acceptedAt.wall);

const contentOf = ({ isWhole, addresses, prefixes }: Grant): string =>
  `${isWhole ? 'whole' : addresses.join()} ${prefixes?.join() ?? '-'}`;

const readContent = ({ isWhole, addresses, prefixes }: Grant): Pick<Known, 'granted' | 'leased'> => {
  const leased = prefixes?.map(parsePrefix);
  if (isWhole) return { granted: leased ?? 'whole', leased };
  const hosts = addresses.map((text) => hostPrefix(parseAddress(text)));
  const granted = hosts.filter((one) => leased?.some((prefix) => prefixCovers(prefix, one)) ?? true);
  return { granted, leased };
};
