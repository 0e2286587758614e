// A transactor that keeps count of its transactions and of how long each takes, from the rule's first read until its
// write is durable.

import { Vl3Error } from '../../native-free/error.ts';
import type { Rule } from '../../native-free/registry/rules.ts';
import { type Outcome, Transactor } from './transactor.ts';

/** Refused: by the rule. Failed: by the store, or because others won every time. */
export type TransactionResult = 'done' | 'refused' | 'failed';

const BY_THE_STORE = new Set(['unavailable', 'aborted', 'internal', 'resource-exhausted']);

export class MeasuredTransactor extends Transactor {
  readonly counts: Record<TransactionResult, number> = { done: 0, refused: 0, failed: 0 };
  /** Told how long each took that was carried out. */
  onDone: (seconds: number) => void = () => {};

  override async run<Answer>(rule: Rule<Answer>): Promise<Outcome<Answer>> {
    const begun = performance.now();
    try {
      const outcome = await super.run(rule);
      this.counts.done += 1;
      this.onDone((performance.now() - begun) / 1000);
      return outcome;
    } catch (error) {
      const isRefusal = error instanceof Vl3Error && !BY_THE_STORE.has(error.code);
      this.counts[isRefusal ? 'refused' : 'failed'] += 1;
      throw error;
    }
  }
}
