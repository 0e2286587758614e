// Whom this run of the simulated registry has heard, and what of the store they had seen by then: until those who were
// alive at the start have come back, nothing new is issued. The twin of src/registry/hearing.ts.

import { Vl3Error } from '../error.ts';
import { all, below } from '../registry/keys.ts';
import { hearPosition, type SeenPosition } from '../registry/recovery-rules.ts';
import { State } from '../registry/state.ts';
import type { DurableStore } from './durable-store.ts';

export class SimulatedHearing {
  readonly #store: DurableStore;
  readonly #now: () => number;
  readonly #firstRevision: number;
  readonly #awaited: Set<string>;
  readonly #heard = new Set<string>();
  readonly #patienceEndsAt: number;

  /** To be made before anything is written. */
  constructor(store: DurableStore, patienceMs: number, now: () => number) {
    const ranges = [all(below.nodes), all(below.liveness)];
    const state = new State(ranges, store.read(ranges));
    this.#store = store;
    this.#now = now;
    this.#firstRevision = store.keys.revision;
    this.#awaited = new Set(
      state
        .nodes()
        .filter(({ value }) => value.deletedAt === undefined && state.liveness(value.name) !== undefined)
        .map(({ value }) => value.name),
    );
    this.#patienceEndsAt = now() + patienceMs;
  }

  /** Throws while those who were alive at the start may still have something to say. */
  mustIssue(): void {
    if (this.#awaited.size > 0 && this.#now() < this.#patienceEndsAt)
      throw new Vl3Error('unavailable', 'the registry has just started and first hears its nodes');
  }

  forget(node: string): void {
    this.#awaited.delete(node);
  }

  /** A watch tells the node revisions of this run, before it may have said what it had seen until then. */
  watches(node: string): void {
    this.#heard.add(node);
  }

  /** A node says what it has seen; a store that can not be it has lost memory. */
  hear(node: string, seen: SeenPosition): void {
    const possible = this.#heard.has(node) ? this.#store.keys.revision : this.#firstRevision;
    this.#store.run(hearPosition(node, seen, { identity: this.#store.identity, possible }));
    this.#heard.add(node);
    this.#awaited.delete(node);
  }
}
