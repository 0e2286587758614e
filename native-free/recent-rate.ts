// How fast a total grows of late, from looks at it now and then: what was added over about the last minute. Time is in milliseconds
// that only grow. Not here: who looks.

interface Look {
  readonly at: number;
  readonly total: number;
}

/** Closer looks than these tell nothing more. */
const STEP_MS = 5_000;
const WINDOW_MS = 60_000;

export class RecentRate {
  /** Oldest first. */
  #looks: readonly Look[] = [];

  /** A total that went back began anew. */
  look(at: number, total: number): void {
    const last = this.#looks.at(-1);
    if (last !== undefined && total < last.total) this.#looks = [];
    else if (last !== undefined && at - last.at < STEP_MS) return;
    // The first of them may be older than the window by one step, so that the whole of it is covered.
    const recent = this.#looks.filter((one) => at - one.at <= WINDOW_MS + STEP_MS);
    this.#looks = [...recent, { at, total }];
  }

  /** Per second; 0 before there was time to tell. */
  perSecond(at: number, total: number): number {
    const first = this.#looks.find((one) => at - one.at <= WINDOW_MS + STEP_MS);
    if (first === undefined || at <= first.at || total < first.total) return 0;
    return ((total - first.total) * 1000) / (at - first.at);
  }
}
