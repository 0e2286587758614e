// Which failures are worth a line in the log: whatever is tried again fails again for the same reason. Each reason is said
// when it is new, and again after ten minutes with how often it came meanwhile.

const AGAIN_MS = 600_000;

interface Reason {
  saidAt: number;
  unsaid: number;
}

export class RepeatedReasons {
  readonly #most: number;
  /** The least recently seen first. */
  readonly #reasons = new Map<string, Reason>();

  /** `most`: reasons remembered; the one least recently seen is said anew. */
  constructor(most = 16) {
    this.#most = most;
  }

  /** Whether `take` would say it. */
  isDue(reason: string, now: number): boolean {
    const known = this.#reasons.get(reason);
    return known === undefined || now - known.saidAt >= AGAIN_MS;
  }

  /** How often it came since it was last said, if it is to be said now; undefined: it is not. */
  take(reason: string, now: number): number | undefined {
    const known = this.#reasons.get(reason);
    const isDue = this.isDue(reason, now);
    this.#reasons.delete(reason);
    const saidAt = isDue || known === undefined ? now : known.saidAt;
    this.#reasons.set(reason, { saidAt, unsaid: isDue ? 0 : (known?.unsaid ?? 0) + 1 });
    if (this.#reasons.size > this.#most) {
      const [oldest] = this.#reasons.keys();
      if (oldest !== undefined) this.#reasons.delete(oldest);
    }
    return isDue ? (known?.unsaid ?? 0) : undefined;
  }
}
