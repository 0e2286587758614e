// What the registry decided of a simulated node's attachments on one network. Where not everyone is admitted, an interface is made
// only once its attachment was. The twin of src/agent/verdicts.ts.

import { NotAdmitted, Vl3Error } from '../error.ts';
import type { Refusal } from '../registry/admission-decisions.ts';
import type { Done } from './outcome.ts';
import type { Timer } from './scheduler.ts';

export interface SimulatedVerdictsDependencies {
  /** Only what a rule admits may be attached. */
  readonly isRestricted: () => boolean;
  /** Has the registry told what is attached, soon. */
  readonly ask: () => void;
  readonly later: (delay: number, label: string, work: () => void) => Timer;
  /** To be taken down. */
  readonly onRefused: (id: string) => void;
}

const PATIENCE_MS = 5_000;

export class SimulatedVerdicts {
  readonly #dependencies: SimulatedVerdictsDependencies;
  readonly #waiting = new Map<string, Done<void>>();

  constructor(dependencies: SimulatedVerdictsDependencies) {
    this.#dependencies = dependencies;
  }

  /** Answers once the attachment was admitted, or not; its document has been written. */
  mustBeAdmitted(id: string, done: Done<void>): void {
    const { isRestricted, ask, later } = this.#dependencies;
    if (!isRestricted()) {
      done({ ok: true, answer: undefined });
      return;
    }
    const impatient = later(PATIENCE_MS, `waits no longer for a verdict on ${id}`, () =>
      answer({ ok: false, error: new Vl3Error('unavailable', 'the registry has not said yet') }),
    );
    const answer: Done<void> = (outcome) => {
      if (this.#waiting.get(id) !== answer) return;
      this.#waiting.delete(id);
      impatient.cancel();
      done(outcome);
    };
    this.#waiting.set(id, answer);
    ask();
  }

  /** The registry was told of these, and refused some. */
  decided(asked: readonly string[], refused: readonly Refusal[]): void {
    const reasons = new Map(refused.map(({ id, reason }) => [id, reason]));
    const unexpected = refused.filter(({ id }) => !this.#waiting.has(id));
    for (const id of asked) {
      const reason = reasons.get(id);
      this.#waiting.get(id)?.(
        reason === undefined
          ? { ok: true, answer: undefined }
          : { ok: false, error: new NotAdmitted(reason) },
      );
    }
    for (const { id } of unexpected) this.#dependencies.onRefused(id);
  }
}
