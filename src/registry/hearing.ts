// Whom this run of the registry has heard, and what of the store the runs before had told them. Until those who were alive at the
// start have come back, which takes seconds, nothing new is issued: if the store is an older copy of itself, only they
// can tell. In memory alone.

import { Vl3Error } from '../../native-free/error.ts';
import { all, below } from '../../native-free/registry/keys.ts';
import { hearPosition, type SeenPosition } from '../../native-free/registry/recovery-rules.ts';
import type { RegistryContext } from './context.ts';
import type { Store } from './store.ts';
import type { Transactor } from './transactor.ts';

export interface HearingOptions {
  /** After this nobody is waited for. Milliseconds. */
  readonly patienceMs: number;
}

export class Hearing {
  /** Of the store before this run wrote anything: no run before it can have said more. */
  readonly #firstRevision: number;
  readonly #awaited: Set<string>;
  readonly #patienceEndsAt: number;

  private constructor(firstRevision: number, awaited: Set<string>, patienceEndsAt: number) {
    this.#firstRevision = firstRevision;
    this.#awaited = awaited;
    this.#patienceEndsAt = patienceEndsAt;
  }

  /** To be called before anything is written. */
  static async begin(options: HearingOptions, store: Store, transactor: Transactor): Promise<Hearing> {
    const { revision } = await store.read([]);
    const state = await transactor.read([all(below.nodes), all(below.liveness)]);
    const alive = state
      .nodes()
      .filter(({ value }) => value.deletedAt === undefined && state.liveness(value.name) !== undefined)
      .map(({ value }) => value.name);
    return new Hearing(revision, new Set(alive), performance.now() + options.patienceMs);
  }

  /** Throws Vl3Error('unavailable') while those who were alive at the start may still have something to say. */
  mustIssue(): void {
    if (this.#awaited.size === 0 || performance.now() >= this.#patienceEndsAt) return;
    const [first] = this.#awaited;
    const others = this.#awaited.size > 1 ? ` and ${this.#awaited.size - 1} more` : '';
    throw new Vl3Error(
      'unavailable',
      `the registry has just started and first hears the nodes that were alive (${first}${others}): try again in a moment`,
    );
  }

  forget(node: string): void {
    this.#awaited.delete(node);
  }

  /**
   * A node says what it has seen; a store that can not be it has lost memory. Whatever the node asked, this comes first.
   * Only what a registry of this domain really said counts, by its stamp: or one node could stop all issuing with a number.
   */
  async hear(
    { transactor, store, stamps, logger }: RegistryContext,
    node: string,
    told: ToldPosition,
  ): Promise<void> {
    const seen = positionOf(told);
    const run = stamps.runThatSaid(told.storeId, told.revision, told.stamp);
    if (run === undefined) {
      this.#awaited.delete(node);
      return;
    }
    const { revision: present } = await store.read([]);
    const possible = run === stamps.run ? present : this.#firstRevision;
    const rule = hearPosition(node, { ...seen, run }, { identity: store.identity, possible });
    const { answer: began } = await transactor.run(rule);
    this.#awaited.delete(node);
    if (!began) return;
    logger.warn(
      { node, ...seen, present, reason: 'went-back' },
      'a node has seen more than this store can hold: recovering what nodes hold, no prefix is issued meanwhile',
    );
  }
}

/** As requests carry it; empty: the node has seen none. */
interface ToldPosition {
  readonly storeId: string;
  readonly revision: bigint;
  readonly stamp: Uint8Array;
}

const positionOf = ({ storeId, revision }: ToldPosition): SeenPosition => {
  if (storeId.length > 64) throw new Vl3Error('invalid-argument', 'store_id: use at most 64 characters');
  if (revision < 0n || revision > BigInt(Number.MAX_SAFE_INTEGER)) {
    throw new Vl3Error('invalid-argument', 'revision: no store gets there');
  }
  return { storeId, revision: Number(revision) };
};
