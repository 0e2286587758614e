// Carries rules out on a store: read, decide, transact, and decide anew when another writer was faster. Within this
// process transitions go one after another, so that only other replicas ever cause a retry.

import { setImmediate as immediate } from 'node:timers/promises';
import { Vl3Error } from '../../native-free/error.ts';
import type { Rule } from '../../native-free/registry/rules.ts';
import { DecodedValues, State } from '../../native-free/registry/state.ts';
import type { Range } from '../../native-free/registry/transaction.ts';
import type { Store } from './store.ts';

const MAX_ATTEMPTS = 50;

export interface Outcome<Answer> {
  readonly answer: Answer;
  /** The store's revision with the transition in it. */
  readonly revision: number;
}

export class Transactor {
  readonly #store: Store;
  readonly #decoded = new DecodedValues();
  #last: Promise<unknown> = Promise.resolve();

  constructor(store: Store) {
    this.#store = store;
  }

  async read(ranges: readonly Range[]): Promise<State> {
    return new State(ranges, await this.#store.read(ranges), this.#decoded);
  }

  /** Throws the rule's Vl3Error, or 'aborted' when other writers win every time. */
  run<Answer>(rule: Rule<Answer>): Promise<Outcome<Answer>> {
    const next = this.#last.then(() => this.#run(rule));
    this.#last = next.catch(() => {});
    return next;
  }

  async #run<Answer>(rule: Rule<Answer>): Promise<Outcome<Answer>> {
    for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
      const state = await this.read(rule.reads);
      const { compares, operations, answer } = rule.decide(state);
      if (operations.length === 0) return { answer, revision: state.revision };
      const { succeeded, revision } = await this.#store.transact(compares, operations);
      // The embedded store works within the call: without this, a queue of transitions would starve timers and sockets.
      await immediate();
      if (succeeded) return { answer, revision };
    }
    throw new Vl3Error('aborted', 'others keep changing the same: try again');
  }
}
