// What was measured, by row and contender: one number a repetition. And what follows from it: medians, how far they are spread,
// and vl3's ratio to each of the others.

import { median } from '../../lab/spread.ts';

export const OURS = 'vl3';

export class Samples {
  readonly #rows = new Map<string, Map<string, number[]>>();

  add(row: string, contender: string, value: number): void {
    const values = this.#rows.get(row) ?? new Map<string, number[]>();
    this.#rows.set(row, values);
    values.set(contender, [...(values.get(contender) ?? []), value]);
  }

  of(row: string, contender: string): readonly number[] {
    return this.#rows.get(row)?.get(contender) ?? [];
  }

  /** Undefined where nothing was measured. */
  median(row: string, contender: string): number | undefined {
    const values = this.of(row, contender);
    return values.length === 0 ? undefined : median(values);
  }

  /** vl3's median by the other's; undefined where either is missing, or where there is nothing to divide by. */
  ratio(row: string, contender: string): number | undefined {
    const ours = this.median(row, OURS);
    const theirs = this.median(row, contender);
    return ours === undefined || theirs === undefined || theirs === 0 ? undefined : ours / theirs;
  }

  /** All of it, as it was measured. */
  get raw(): Record<string, Record<string, readonly number[]>> {
    return Object.fromEntries([...this.#rows].map(([row, values]) => [row, Object.fromEntries(values)]));
  }
}

/** A figure that comes out of two others of one contender. */
export interface Derived extends Row {
  /** The rows it comes from. */
  readonly from: readonly [string, string];
  readonly value: (one: number, other: number) => number;
}

export interface Row {
  readonly name: string;
  readonly unit: string;
  readonly better: 'more' | 'less';
}

/** Adds what can be derived for each contender: repetition by repetition, or of the medians where repetitions are missing. */
export const derive = (
  samples: Samples,
  derived: readonly Derived[],
  contenders: readonly string[],
): void => {
  for (const { name, from, value } of derived) {
    for (const contender of contenders) {
      const [ones, others] = [samples.of(from[0], contender), samples.of(from[1], contender)];
      if (ones.length === 0 || others.length === 0) continue;
      const pairs =
        ones.length === others.length
          ? ones.map((one, i) => [one, others[i] ?? 0])
          : [[median(ones), median(others)]];
      for (const [one = 0, other = 0] of pairs) {
        const result = value(one, other);
        if (Number.isFinite(result)) samples.add(name, contender, result);
      }
    }
  }
};
