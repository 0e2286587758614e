// Whom this run of the registry has heard, and what of the store the runs before had told them. Until those who were alive at the
// start have come back, which takes seconds, nothing new is issued: if the store is an older copy of itself, only they
// can tell. In memory alone.

import { Vl3Error } from '../error.ts';
import { all, below } from './keys.ts';
import { hearPosition, type SeenPosition } from './recovery-rules.ts';
import type { Rule } from './rules.ts';
import type { State } from './state.ts';

/** What tells the words of a registry from those that others put into its mouth. */
export interface PositionStamps {
  /** Of this process: what it said itself is never news to it. */
  readonly run: string;
  /** The run that said so; undefined: none ever did. */
  runThatSaid(storeId: string, revision: bigint, stamp: Uint8Array): string | undefined;
}

/** As requests carry it; empty: the node has seen none. */
export interface ToldPosition {
  readonly storeId: string;
  readonly revision: bigint;
  readonly stamp: Uint8Array;
}

export class Hearing {
  static readonly reads = [all(below.nodes), all(below.liveness)];
  /** Of the store before this run wrote anything: no run before it can have said more. */
  readonly #firstRevision: number;
  readonly #awaited: Set<string>;
  readonly #patienceEndsAt: number;

  /** `found` is the store, `revision` its own, before this run wrote anything. After `patienceEndsAt` nobody is waited for. */
  constructor(found: State, revision: number, patienceEndsAt: number) {
    const alive = found
      .nodes()
      .filter(({ value }) => value.deletedAt === undefined && found.liveness(value.name) !== undefined)
      .map(({ value }) => value.name);
    this.#firstRevision = revision;
    this.#awaited = new Set(alive);
    this.#patienceEndsAt = patienceEndsAt;
  }

  /** Throws Vl3Error('unavailable') while those who were alive at the start may still have something to say. */
  mustIssue(now: number): void {
    if (this.#awaited.size === 0 || now >= this.#patienceEndsAt) return;
    const [first] = this.#awaited;
    const others = this.#awaited.size > 1 ? ` and ${this.#awaited.size - 1} more` : '';
    throw new Vl3Error(
      'unavailable',
      `the registry has just started and first hears the nodes that were alive (${first}${others}): try again in a moment`,
    );
  }

  /** A node has been heard, or does not come back. */
  forget(node: string): void {
    this.#awaited.delete(node);
  }

  /**
   * What a node says it has seen, as a rule that answers whether a recovery begins: a store that cannot be it has lost memory.
   * Only what a registry of this domain really said counts, by its stamp: or one node could stop all issuing with a
   * number. Undefined: none did. Throws Vl3Error('invalid-argument') for what no store can be.
   */
  rule(
    node: string,
    told: ToldPosition,
    store: { readonly identity: string; readonly revision: number; readonly stamps: PositionStamps },
  ): Rule<boolean> | undefined {
    const seen = positionOf(told);
    const run = store.stamps.runThatSaid(told.storeId, told.revision, told.stamp);
    if (run === undefined) return undefined;
    const possible = run === store.stamps.run ? store.revision : this.#firstRevision;
    return hearPosition(node, { ...seen, run }, { identity: store.identity, possible });
  }
}

const positionOf = ({ storeId, revision }: ToldPosition): SeenPosition => {
  if (storeId.length > 64) throw new Vl3Error('invalid-argument', 'store_id: use at most 64 characters');
  if (revision < 0n || revision > BigInt(Number.MAX_SAFE_INTEGER)) {
    throw new Vl3Error('invalid-argument', 'revision: no store gets there');
  }
  return { storeId, revision: Number(revision) };
};
