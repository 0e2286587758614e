// What the registry decided of this node's attachments on one network. Where not everyone is admitted, an interface is made
// only once its attachment was; and what was admitted before and is not any more is given back to be taken down.

import { NotAdmitted, Vl3Error } from '../../native-free/error.ts';
import type { NetworkDocument } from '../../native-free/reconcile/documents.ts';

export interface Refused {
  readonly id: string;
  readonly reason: string;
}

export interface VerdictsDeps {
  readonly saved: { readonly name: string; readonly document: Pick<NetworkDocument, 'isRestricted'> };
  /** Another domain's network admits by rules alone. */
  readonly isForeign: boolean;
  /** Has the registry told what is attached, soon. */
  readonly ask: () => void;
  /** Why it may take longer; undefined: nothing is known to be wrong. */
  readonly problem: () => string | undefined;
  /** To be taken down. */
  readonly onRefused: (refused: readonly Refused[]) => void;
}

/** The registry decides within milliseconds: whoever waits is not kept for long, and asks again. */
const PATIENCE_MS = 5_000;

export class Verdicts {
  readonly #deps: VerdictsDeps;
  /** By attachment: those that wait for what is decided of it. */
  readonly #waiting = new Map<string, (reason: string | undefined) => void>();

  constructor(deps: VerdictsDeps) {
    this.#deps = deps;
  }

  /**
   * Resolves once it is admitted, its document having been written. Throws NotAdmitted, or Vl3Error('unavailable') while the
   * registry does not say.
   */
  async mustBeAdmitted(id: string): Promise<void> {
    const { saved, isForeign, ask } = this.#deps;
    if (!saved.document.isRestricted && !isForeign) return;
    const decided = Promise.withResolvers<string | undefined>();
    const impatient = setTimeout(
      () => decided.reject(new Vl3Error('unavailable', this.#unsaid())),
      PATIENCE_MS,
    );
    this.#waiting.set(id, decided.resolve);
    try {
      ask();
      const reason = await decided.promise;
      if (reason !== undefined) throw new NotAdmitted(reason);
    } finally {
      clearTimeout(impatient);
      if (this.#waiting.get(id) === decided.resolve) this.#waiting.delete(id);
    }
  }

  /** Why it is not attached yet, in a sentence; empty: it does not wait for what is decided. */
  waiting(id: string): string {
    return this.#waiting.has(id) ? this.#unsaid() : '';
  }

  #unsaid(): string {
    const { saved, problem } = this.#deps;
    const why = problem();
    return `network ${saved.name} admits by rules, and its registry has not said yet whether this is admitted${why === undefined ? '' : `: ${why}`}`;
  }

  /** The registry was told of these, and refused some. */
  decided(asked: readonly string[], refused: readonly Refused[]): void {
    const reasons = new Map(refused.map(({ id, reason }) => [id, reason]));
    const unexpected = refused.filter(({ id }) => !this.#waiting.has(id));
    for (const id of asked) this.#waiting.get(id)?.(reasons.get(id));
    if (unexpected.length > 0) this.#deps.onRefused(unexpected);
  }
}
