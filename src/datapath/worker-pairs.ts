// How many pairs of workers a datapath has. One that sends and one that receives keep two processors busy; where there are
// hardly more than that, half a pair does better: one thread for both.

import { availableParallelism } from 'node:os';
import { Vl3Error } from '../../native-free/error.ts';

/** Powers of two, since receiver indices end in a pair's number. */
export const MAX_PAIRS = 8;

/** As settings are written: 'auto', or how many. */
export const WORKER_PAIRS = ['auto', 'half', '1', '2', '4', '8'] as const;
export type WorkerPairs = (typeof WORKER_PAIRS)[number];

/** Each costs tens of megabytes, and few nodes have traffic for more; who has sets it. */
const MOST_BY_ITSELF = 4;

/** One thread for both directions. */
export const HALF_A_PAIR = 0.5;

/** One pair for each two processors, but half a pair on fewer than four: the others are for who sends and receives. */
export const defaultPairs = (processors = availableParallelism()): number =>
  processors < 4 ? HALF_A_PAIR : 2 ** Math.floor(Math.log2(Math.min(processors / 2, MOST_BY_ITSELF)));

export const pairsOf = (setting: WorkerPairs): number => {
  if (setting === 'half') return HALF_A_PAIR;
  return setting === 'auto' ? defaultPairs() : Number(setting);
};

/** How many of each direction there are. */
export const lanesOf = (pairs: number): number => Math.max(pairs, 1);

export const checkPairs = (pairs: number): number => {
  if (pairs === HALF_A_PAIR) return pairs;
  if (Number.isInteger(pairs) && pairs >= 1 && pairs <= MAX_PAIRS && (pairs & (pairs - 1)) === 0)
    return pairs;
  throw new Vl3Error(
    'invalid-argument',
    `there cannot be ${pairs} pairs of workers: choose 0.5, 1, 2, 4 or 8`,
  );
};
