// The verified node records of one network: what peers are configured from, and nothing else is. Its owner keeps the exact
// bytes received, and they are verified again at every load. A record goes by tombstone or when its validity ends; that
// the registry does not list it any more changes nothing.

import { type Prefix, parsePrefix, prefixCovers } from '../ipam/prefix.ts';
import { decodeVerified, type NodeRecord, type SignedRecord, type VerifyRecord } from './record.ts';

export interface RecordBookOptions {
  readonly network: string;
  readonly networkUid: string;
  /** The network's. A record that claims more is refused, whatever the registry let pass. */
  readonly pools: readonly Prefix[];
  /** This node: its own record is no peer's. */
  readonly node: string;
}

/** Where the records of this network are kept over a restart. */
export interface SavedRecords {
  list(): Iterable<{ readonly node: string; readonly signed: SignedRecord }>;
  put(node: string, signed: SignedRecord): void;
  delete(node: string): void;
}

export interface RecordBookDependencies {
  readonly saved: SavedRecords;
  readonly verify: VerifyRecord;
  /** Told of every record that was refused or dropped, with the reason. */
  readonly report: (what: 'refused' | 'dropped', node: string, reason: string) => void;
}

export class RecordBook {
  readonly #options: RecordBookOptions;
  readonly #dependencies: RecordBookDependencies;
  readonly #records = new Map<string, NodeRecord>();
  readonly #alive = new Map<string, boolean>();
  readonly #refused = new Map<string, string>();
  #ownSequence = 0;

  /** Loads what was saved and verifies at `now` (unix ms). */
  constructor(options: RecordBookOptions, dependencies: RecordBookDependencies, now: number) {
    this.#options = options;
    this.#dependencies = dependencies;
    for (const { node, signed } of dependencies.saved.list()) {
      const record = this.#decode(signed, now);
      // What does not verify stays saved: at a start the clock may be wrong, and right again at the next.
      if (typeof record !== 'string' && record.node === node) this.#records.set(node, record);
    }
  }

  /** The records that hold at `now` (unix ms), this node's own left out. */
  valid(now: number): NodeRecord[] {
    return [...this.#records.values()].filter(({ notAfter }) => now < notAfter);
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

  setAlive(node: string, alive: boolean): void {
    this.#alive.set(node, alive);
  }

  /** Takes a record that the registry gave for `node`. True when it changed the book. */
  accept(node: string, signed: SignedRecord, now: number): boolean {
    const record = this.#decode(signed, now);
    if (node === this.#options.node) {
      if (typeof record !== 'string' && record.node === node) this.#noteOwn(record.sequence);
      return false;
    }
    if (typeof record === 'string') return this.#refuse(node, record);
    if (record.node !== node)
      return this.#refuse(node, `the registry gave a record of "${record.node}" for "${node}"`);
    this.#refused.delete(node);
    const known = this.#records.get(node);
    if (known !== undefined && known.sequence >= record.sequence) return false;
    this.#records.set(node, record);
    this.#dependencies.saved.put(node, signed);
    return true;
  }

  /** The node was removed after its record of `sequence`. True when it changed the book. */
  bury(node: string, sequence: number): boolean {
    if (node === this.#options.node) this.#noteOwn(sequence);
    this.#alive.delete(node);
    this.#refused.delete(node);
    const known = this.#records.get(node);
    if (known === undefined || known.sequence > sequence) return false;
    this.#forget(node, 'it was removed');
    return true;
  }

  /** Strikes out everything of the network, also what is saved. */
  clear(): void {
    for (const node of [...this.#records.keys()]) this.#forget(node, 'this node left the network');
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
    this.#dependencies.saved.delete(node);
    this.#dependencies.report('dropped', node, reason);
  }

  /** The record if it holds, or why not. */
  #decode(signed: SignedRecord, now: number): NodeRecord | string {
    const { network, networkUid, pools } = this.#options;
    const result = decodeVerified(signed, this.#dependencies.verify, now, { network, networkUid });
    if (result.kind === 'refused') return result.message;
    const stray = result.record.prefixes.find(
      ({ prefix }) => !pools.some((pool) => prefixCovers(pool, parsePrefix(prefix))),
    );
    if (stray === undefined) return result.record;
    return `it claims ${stray.prefix}, which lies in no pool of the network`;
  }
}
