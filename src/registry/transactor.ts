// Carries rules out on a store. The store makes each one's reading, deciding and writing one step, and commits what comes
// at once together; here values are decoded, once each.

import { Vl3Error } from '../../native-free/error.ts';
import type { Rule } from '../../native-free/registry/rules.ts';
import { DecodedValues, State } from '../../native-free/registry/state.ts';
import type { Range } from '../../native-free/registry/transaction.ts';
import type { Store } from './store.ts';

export interface Outcome<Answer> {
  readonly answer: Answer;
  /** The store's revision with the transition in it. */
  readonly revision: number;
}

export class Transactor {
  readonly #store: Store;
  readonly #decoded = new DecodedValues();

  constructor(store: Store) {
    this.#store = store;
  }

  async read(ranges: readonly Range[]): Promise<State> {
    return new State(ranges, await this.#store.read(ranges), this.#decoded);
  }

  /** Throws the rule's Vl3Error, 'unavailable' when the store cannot write, or 'aborted' when other writers win every time. */
  async run<Answer>(rule: Rule<Answer>): Promise<Outcome<Answer>> {
    let decided: { readonly answer: Answer } | undefined;
    const revision = await this.#store.update(rule.reads, (found) => {
      const plan = rule.decide(new State(rule.reads, found, this.#decoded));
      decided = plan;
      return plan;
    });
    if (decided === undefined) throw new Vl3Error('internal', 'the store did not ask for a decision');
    return { answer: decided.answer, revision };
  }
}
