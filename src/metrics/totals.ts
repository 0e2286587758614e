// Totals over parts that come and go: a peer's byte counts end with the peer and begin at nothing when it is back, but
// a total never goes down.

import type { Sample } from './instruments.ts';

type Labels = Readonly<Record<string, string>>;

interface Total {
  readonly labels: Labels;
  readonly sum: number;
  readonly seen: ReadonlyMap<string, number>;
}

export class Totals {
  readonly #totals = new Map<string, Total>();

  /** The counts of all parts, as they stand now. */
  take(labels: Labels, counts: ReadonlyMap<string, number>): void {
    const key = JSON.stringify(labels);
    const before = this.#totals.get(key);
    let sum = before?.sum ?? 0;
    for (const [part, count] of counts) {
      const seen = before?.seen.get(part) ?? 0;
      sum += count >= seen ? count - seen : count;
    }
    this.#totals.set(key, { labels, sum, seen: counts });
  }

  get samples(): Sample[] {
    return [...this.#totals.values()].map(({ labels, sum }) => [labels, sum]);
  }
}
