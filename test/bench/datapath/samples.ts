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

/** A figure that comes out of others: of one contender's medians. */
export interface Derived extends Row {
  /** The rows it comes from. */
  readonly from: readonly string[];
  readonly value: (...medians: number[]) => number;
}

export interface Row {
  readonly name: string;
  readonly unit: string;
  readonly better: 'more' | 'less';
}

/** Adds what can be derived for each contender; where a part is missing, nothing. */
export const derive = (
  samples: Samples,
  derived: readonly Derived[],
  contenders: readonly string[],
): void => {
  for (const { name, from, value } of derived) {
    for (const contender of contenders) {
      const medians = from.map((row) => samples.median(row, contender));
      const known = medians.filter((one) => one !== undefined);
      if (known.length < from.length) continue;
      const result = value(...known);
      if (Number.isFinite(result)) samples.add(name, contender, result);
    }
  }
};
