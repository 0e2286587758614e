// Since when nothing is wrong: the measure for what is promised within seconds. Every fault counts, also those that traffic has to
// survive, since what was decided cannot be told to whoever is out of reach.

export class Calm {
  readonly #now: () => number;
  readonly #aftermathMs: number;
  #lasting = 0;
  #disturbedAt = 0;

  /** `aftermathMs`: so long after a fault everybody may still be on his way to hearing what he missed. */
  constructor(now: () => number, aftermathMs: number) {
    this.#now = now;
    this.#aftermathMs = aftermathMs;
  }

  disturbed(): void {
    this.#disturbedAt = this.#now();
  }

  /** A fault began; call the answer when it ends. */
  begin(): () => void {
    this.#lasting++;
    return () => {
      this.#lasting--;
      this.disturbed();
    };
  }

  /** Infinity: it is not. */
  get since(): number {
    return this.#lasting > 0 ? Number.POSITIVE_INFINITY : this.#disturbedAt + this.#aftermathMs;
  }
}
