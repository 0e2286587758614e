// The nodes that this run of the registry hears, over its store and its clock. Whom it waits for, and what their words
// mean, is native-free/registry/hearing.ts.

import * as registry from '../../native-free/registry/hearing.ts';
import type { RegistryContext } from './context.ts';
import type { Store } from './store.ts';
import type { Transactor } from './transactor.ts';

export interface HearingOptions {
  /** After this nobody is waited for. Milliseconds. */
  readonly patienceMs: number;
}

export class Hearing {
  readonly #hearing: registry.Hearing;

  private constructor(hearing: registry.Hearing) {
    this.#hearing = hearing;
  }

  /** To be called before anything is written. */
  static async begin(options: HearingOptions, store: Store, transactor: Transactor): Promise<Hearing> {
    const { revision } = await store.read([]);
    const found = await transactor.read(registry.Hearing.reads);
    return new Hearing(new registry.Hearing(found, revision, performance.now() + options.patienceMs));
  }

  /** Throws Vl3Error('unavailable') while those who were alive at the start may still have something to say. */
  mustIssue(): void {
    this.#hearing.mustIssue(performance.now());
  }

  forget(node: string): void {
    this.#hearing.forget(node);
  }

  /** A node says what it has seen. Whatever it asked, this comes first. */
  async hear(
    { transactor, store, stamps, logger }: RegistryContext,
    node: string,
    told: registry.ToldPosition,
  ): Promise<void> {
    const { revision } = await store.read([]);
    const rule = this.#hearing.rule(node, told, { identity: store.identity, revision, stamps });
    const began = rule !== undefined && (await transactor.run(rule)).answer;
    this.#hearing.forget(node);
    if (!began) return;
    logger.warn(
      {
        node,
        storeId: told.storeId,
        revision: Number(told.revision),
        present: revision,
        reason: 'went-back',
      },
      'a node has seen more than this store can hold: recovering what nodes hold, no prefix is issued meanwhile',
    );
  }
}
