// How often one address may ask: a token bucket for each, and one for all together, so that no pod keeps the agent from its
// other work. A bucket that is full again is forgotten. Sources are pods' own addresses: the router lets no others pass.

export interface QueryRates {
  /** Of one address. */
  readonly perSecond: number;
  readonly burst: number;
  /** Of all together. */
  readonly totalPerSecond: number;
  readonly totalBurst: number;
}

export const QUERY_RATES: QueryRates = {
  perSecond: 500,
  burst: 1000,
  totalPerSecond: 5000,
  totalBurst: 5000,
};

const MAX_BUCKETS = 8192;

class Bucket {
  #tokens: number;
  #at: number;

  constructor(burst: number, now: number) {
    this.#tokens = burst;
    this.#at = now;
  }

  /** Milliseconds since it was last asked. */
  idle(now: number): number {
    return now - this.#at;
  }

  take(perSecond: number, burst: number, now: number): boolean {
    this.#tokens = Math.min(burst, this.#tokens + (Math.max(0, now - this.#at) * perSecond) / 1000);
    this.#at = now;
    if (this.#tokens < 1) return false;
    this.#tokens -= 1;
    return true;
  }
}

export class QueryLimiter {
  readonly #rates: QueryRates;
  /** The least recently asked first. */
  readonly #buckets = new Map<string, Bucket>();
  readonly #total: Bucket;

  constructor(rates: QueryRates, now: number) {
    this.#rates = rates;
    this.#total = new Bucket(rates.totalBurst, now);
  }

  get size(): number {
    return this.#buckets.size;
  }

  /** Whether `source` may ask now; `now` is in milliseconds that only grow. */
  allow(source: string, now: number): boolean {
    const { perSecond, burst, totalPerSecond, totalBurst } = this.#rates;
    const bucket = this.#buckets.get(source) ?? new Bucket(burst, now);
    this.#buckets.delete(source);
    this.#forgetFull(now);
    this.#buckets.set(source, bucket);
    return bucket.take(perSecond, burst, now) && this.#total.take(totalPerSecond, totalBurst, now);
  }

  #forgetFull(now: number): void {
    const { perSecond, burst } = this.#rates;
    for (const [source, bucket] of this.#buckets) {
      const isFull = bucket.idle(now) >= (burst * 1000) / perSecond;
      if (!isFull && this.#buckets.size < MAX_BUCKETS) return;
      this.#buckets.delete(source);
    }
  }
}
