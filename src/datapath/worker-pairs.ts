// How many pairs of workers a datapath has. A worker that sends and one that receives keep two processors busy.

import { availableParallelism } from 'node:os';
import { Vl3Error } from '../../native-free/error.ts';

/** Powers of two, since receiver indices end in a pair's number. */
export const MAX_PAIRS = 8;

/** As settings are written: 'auto', or how many. */
export const WORKER_PAIRS = ['auto', '1', '2', '4', '8'] as const;
export type WorkerPairs = (typeof WORKER_PAIRS)[number];

/** Each costs tens of megabytes, and few nodes have traffic for more; who has sets it. */
const MOST_BY_ITSELF = 4;

/** One pair for each two processors. */
export const defaultPairs = (processors = availableParallelism()): number =>
  2 ** Math.floor(Math.log2(Math.min(Math.max(processors / 2, 1), MOST_BY_ITSELF)));

export const pairsOf = (setting: WorkerPairs): number =>
  setting === 'auto' ? defaultPairs() : Number(setting);

export const checkPairs = (pairs: number): number => {
  if (Number.isInteger(pairs) && pairs >= 1 && pairs <= MAX_PAIRS && (pairs & (pairs - 1)) === 0)
    return pairs;
  throw new Vl3Error('invalid-argument', `there cannot be ${pairs} pairs of workers: choose 1, 2, 4 or 8`);
};
