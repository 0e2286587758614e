// The verified node records of one network: what peers are configured from, and nothing else is. Its owner keeps the exact
// bytes received, and they are verified again at every load. A record goes by tombstone or when its validity ends; that
// the registry does not list it any more changes nothing.
//
// Validity is judged by the wall clock once, when a record is accepted. What it has left then runs on CLOCK_BOOTTIME, and
// no jump of the wall clock lengthens or shortens it. Only after a reboot the wall clock decides again. Was it wrong when
// the record came, then that is refused and tried again once the clock has been set, or its end is off by as much.

import { type Prefix, parsePrefix, prefixCovers } from '../ipam/prefix.ts';
import type { Moment } from '../moment.ts';
import { Listing } from './listing.ts';
import { nodeKey, readNodeKey } from './node-key.ts';
import {
  decodeVerified,
  type NodeRecord,
  notFederated,
  type SignedRecord,
  type VerifierOf,
} from './record.ts';

export interface RecordBookOptions {
  readonly network: string;
  readonly networkUid: string;
  /** The trust domain whose the network is: nodes of others are called `<node>@<domain>` (node-key.ts). */
  readonly home: string;
  /** The network's. A record that claims more is refused, whatever the registry let pass. */
  readonly pools: readonly Prefix[];
  /** This node: its own record is no peer's. */
  readonly node: string;
}

export interface SavedRecord {
  readonly node: string;
  readonly signed: SignedRecord;
  /** Undefined when an earlier version wrote it down. */
  readonly acceptedAt?: Moment | undefined;
}

/** Where the records of this network are kept over a restart. */
export interface SavedRecords {
  list(): Iterable<SavedRecord>;
  put(node: string, signed: SignedRecord, acceptedAt: Moment): void;
  delete(node: string): void;
}

export interface RecordBookDependencies {
  readonly saved: SavedRecords;
  readonly verifierOf: VerifierOf;
  /** Told of every record that was refused or dropped, with the reason. */
  readonly report: (what: 'refused' | 'dropped', node: string, reason: string) => void;
}

/** A clock that moved by more than this against CLOCK_BOOTTIME was set. */
const JUMP_MS = 1000;
/** What was refused is looked at again this often, since time alone may have made it valid. */
const RETRY_MS = 60_000;

/** Its node is called as the home calls it. */
export interface HeldRecord extends NodeRecord {
  /** Of a node of the home whose signer is apart: it has the prefixes that its grant names, and no others. */
  readonly isLeased: boolean;
}

interface Known {
  readonly record: HeldRecord;
  readonly signed: SignedRecord;
  /** In the present boot. */
  readonly acceptedAt: Moment;
}

export class RecordBook {
  readonly #options: RecordBookOptions;
  readonly #dependencies: RecordBookDependencies;
  readonly #records = new Map<string, Known>();
  /** What did not hold at the time, by node: the clock may have been wrong. */
  readonly #parked = new Map<string, SignedRecord>();
  #parkedAt: Moment;
  /** What the registry has, by what it said since its last snapshot began. */
  readonly listing = new Listing();
  readonly #alive = new Map<string, boolean>();
  readonly #refused = new Map<string, string>();
  #ownSequence = 0;

  /** Loads what was saved and verifies it. */
  constructor(options: RecordBookOptions, dependencies: RecordBookDependencies, now: Moment) {
    this.#options = options;
    this.#dependencies = dependencies;
    this.#parkedAt = now;
    for (const { node, signed, acceptedAt } of dependencies.saved.list()) {
      const isOfThisBoot = acceptedAt?.bootId === now.bootId;
      const at = isOfThisBoot ? acceptedAt : now;
      const record = this.#decode(node, signed, at.wall);
      // What does not verify stays saved: at a start the clock may be wrong, and be set right later.
      if (typeof record === 'string') this.#parked.set(node, signed);
      else {
        this.#records.set(node, { record, signed, acceptedAt: at });
        if (!isOfThisBoot) dependencies.saved.put(node, signed, at);
      }
    }
  }

  /** The records that hold now, this node's own left out. */
  valid(now: Moment): HeldRecord[] {
    return this.#holding(now).map(({ record }) => record);
  }

  /** What the registry does not know, by its last list, or knows only an older one of. */
  testimony(now: Moment): SignedRecord[] {
    return this.#holding(now)
      .filter(({ record }) => !this.listing.has(record.node))
      .map(({ signed }) => signed);
  }

  /**
   * The highest sequence under which the registry knows this node itself: the next record must be past it. This node may
   * not remember it, when it left since, and its clock may not be past it, when that was ahead.
   */
  get ownSequence(): number {
    return this.#ownSequence;
  }

  /** Why the newest record of a node was not accepted, by node. */
  get refusals(): ReadonlyMap<string, string> {
    return this.#refused;
  }

  isAlive(node: string): boolean {
    return this.#alive.get(node) ?? false;
  }

  /** As the registry last said; undefined: it has said nothing of this node. */
  liveness(node: string): boolean | undefined {
    return this.#alive.get(node);
  }

  setAlive(node: string, alive: boolean): void {
    this.#alive.set(node, alive);
  }

  /** Takes a record that the registry gave for `node`. True when it changed the book. */
  accept(node: string, signed: SignedRecord, now: Moment): boolean {
    const record = this.#decode(node, signed, now.wall);
    if (node === this.#options.node) {
      if (typeof record !== 'string') this.#noteOwn(record.sequence);
      return false;
    }
    if (typeof record === 'string') {
      this.#parked.set(node, signed);
      this.#parkedAt = now;
      return this.#refuse(node, record);
    }
    return this.#take(record, signed, now, true);
  }

  /**
   * Looks again at what was refused, if the wall clock was set since or a while has passed. True when it changed the book.
   * Cheap otherwise.
   */
  retry(now: Moment): boolean {
    if (this.#parked.size === 0) return false;
    const passed = now.boot - this.#parkedAt.boot;
    if (Math.abs(now.wall - this.#parkedAt.wall - passed) < JUMP_MS && passed < RETRY_MS) return false;
    this.#parkedAt = now;
    let changed = false;
    for (const [node, signed] of this.#parked) {
      const record = this.#decode(node, signed, now.wall);
      if (typeof record === 'string') continue;
      changed = this.#take(record, signed, now, false) || changed;
    }
    return changed;
  }

  /**
   * Another bundle holds for a domain, or none any more: whatever its nodes signed is looked at again. True when that changed
   * the book.
   */
  trustChanged(trustDomain: string, now: Moment): boolean {
    const isOfDomain = (node: string): boolean =>
      readNodeKey(this.#options.home, node)?.trustDomain === trustDomain;
    let changed = false;
    for (const [node, { signed, acceptedAt }] of this.#records) {
      if (!isOfDomain(node)) continue;
      // By when it was accepted: a clock that was set since decides nothing here.
      const record = this.#decode(node, signed, acceptedAt.wall);
      if (typeof record !== 'string') continue;
      this.#records.delete(node);
      this.#parked.set(node, signed);
      this.#refuse(node, record);
      changed = true;
    }
    for (const [node, signed] of [...this.#parked]) {
      if (!isOfDomain(node) || node === this.#options.node) continue;
      const record = this.#decode(node, signed, now.wall);
      if (typeof record === 'string') continue;
      const before = this.#records.get(node);
      try {
        changed = this.#take(record, signed, now, false) || changed;
      } catch {
        // The disk is full, maybe: that keeps nobody from being struck out. `retry` looks again, and says it if that fails, too.
        if (before === undefined) this.#records.delete(node);
        else this.#records.set(node, before);
        this.#parked.set(node, signed);
      }
    }
    return changed;
  }

  /** The node was removed after its record of `sequence`. True when it changed the book. */
  bury(node: string, sequence: number): boolean {
    if (node === this.#options.node) this.#noteOwn(sequence);
    this.listing.remove(node);
    this.#alive.delete(node);
    this.#refused.delete(node);
    this.#parked.delete(node);
    const known = this.#records.get(node);
    if (known === undefined || known.record.sequence > sequence) return false;
    this.#forget(node, 'it was removed');
    return true;
  }

  /** Strikes out everything of the network, also what is saved. */
  clear(): void {
    for (const node of [...this.#records.keys(), ...this.#parked.keys()])
      this.#forget(node, 'this node left the network');
  }

  #take(record: HeldRecord, signed: SignedRecord, now: Moment, isListed: boolean): boolean {
    const { node, sequence } = record;
    this.#refused.delete(node);
    this.#parked.delete(node);
    const known = this.#records.get(node);
    if (isListed && (known === undefined || known.record.sequence <= sequence)) this.listing.add(node);
    if (known !== undefined && known.record.sequence >= sequence) return false;
    this.#records.set(node, { record, signed, acceptedAt: now });
    this.#dependencies.saved.put(node, signed, now);
    return true;
  }

  #holding(now: Moment): Known[] {
    return [...this.#records.values()].filter(
      ({ record, acceptedAt }) => now.boot - acceptedAt.boot < record.notAfter - acceptedAt.wall,
    );
  }

  #noteOwn(sequence: number): void {
    this.#ownSequence = Math.max(this.#ownSequence, sequence);
  }

  #refuse(node: string, reason: string): false {
    this.#refused.set(node, reason);
    this.#dependencies.report('refused', node, reason);
    return false;
  }

  #forget(node: string, reason: string): void {
    this.#records.delete(node);
    this.#parked.delete(node);
    this.#dependencies.saved.delete(node);
    this.#dependencies.report('dropped', node, reason);
  }

  /** The record of a node, as the home calls it, if it holds, or why not. */
  #decode(node: string, signed: SignedRecord, now: number): HeldRecord | string {
    const { network, networkUid, home, pools } = this.#options;
    const named = readNodeKey(home, node);
    if (named === undefined) return `the registry calls a node "${node.slice(0, 80)}", which is none`;
    const verify = this.#dependencies.verifierOf(named.trustDomain);
    if (verify === undefined) return notFederated(named.trustDomain);
    const result = decodeVerified(signed, verify, now, { network, networkUid, home });
    if (result.kind === 'refused') return result.message;
    const { record } = result;
    const isLeased = result.isLeased && record.trustDomain === home;
    const signer = nodeKey(home, record);
    if (signer !== node) return `the registry gave a record of "${signer}" for "${node}"`;
    const stray = record.prefixes.find(
      ({ prefix }) => !pools.some((pool) => prefixCovers(pool, parsePrefix(prefix))),
    );
    if (stray === undefined) return { ...record, node, isLeased };
    return `it claims ${stray.prefix}, which lies in no pool of the network`;
  }
}
