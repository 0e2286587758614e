// How often one address may ask, and all together, so that no pod keeps the agent from its other work. Sources are pods' own
// addresses: the router lets no others pass.

import { type BucketOptions, TokenBuckets } from '../token-buckets.ts';

export interface QueryRates {
  readonly ofOne: BucketOptions;
  readonly ofAll: BucketOptions;
}

export const QUERY_RATES: QueryRates = {
  ofOne: { perSecond: 500, burst: 1000 },
  ofAll: { perSecond: 5000, burst: 5000 },
};

export class QueryLimiter {
  readonly #ofOne: TokenBuckets;
  readonly #ofAll: TokenBuckets;

  constructor({ ofOne, ofAll }: QueryRates) {
    this.#ofOne = new TokenBuckets(ofOne);
    this.#ofAll = new TokenBuckets(ofAll);
  }

  /** Whether `source` may ask now; `now` is in milliseconds that only grow. */
  allow(source: string, now: number): boolean {
    return this.#ofOne.take(source, now) && this.#ofAll.take('', now);
  }
}
