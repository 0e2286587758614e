// How often each of many may do something: a token bucket for each name. One that nobody has asked for long enough is full,
// as a new one is, and is forgotten, so that no more are kept than have asked lately.

export interface BucketOptions {
  /** In the long run. */
  readonly perSecond: number;
  /** At once, after a rest. */
  readonly burst: number;
}

interface Bucket {
  /** Milliseconds' worth of tokens. */
  saved: number;
  /** Or until when it has none, where it owes some. */
  askedAt: number;
}

export class TokenBuckets {
  readonly #cost: number;
  readonly #full: number;
  /** The least recently asked first. */
  readonly #buckets = new Map<string, Bucket>();

  constructor({ perSecond, burst }: BucketOptions) {
    this.#cost = 1000 / perSecond;
    this.#full = this.#cost * burst;
  }

  get size(): number {
    return this.#buckets.size;
  }

  /** Whether `name` may once more, at `now` (milliseconds that only grow); then one of its tokens is gone. */
  take(name: string, now: number): boolean {
    this.#forgetFull(now);
    const present = this.#present(name, now);
    const mayDo = present >= this.#cost;
    const askedAt = Math.max(now, this.#buckets.get(name)?.askedAt ?? now);
    this.#buckets.delete(name);
    this.#buckets.set(name, { saved: mayDo ? present - this.#cost : present, askedAt });
    return mayDo;
  }

  /**
   * What it did was worth so many tokens more than the one that it took: what it has not saved, it owes, a whole bucket at
   * most.
   */
  charge(name: string, now: number, tokens: number): void {
    const left = this.#present(name, now) - this.#cost * tokens;
    const askedAt = Math.max(now, this.#buckets.get(name)?.askedAt ?? now);
    const until = Math.min(now + this.#full, askedAt + Math.max(0, -left));
    this.#buckets.delete(name);
    this.#buckets.set(name, { saved: Math.max(0, left), askedAt: until });
  }

  /** Whether `take` would allow it. */
  has(name: string, now: number): boolean {
    return this.#present(name, now) >= this.#cost;
  }

  #present(name: string, now: number): number {
    const { saved, askedAt } = this.#buckets.get(name) ?? { saved: this.#full, askedAt: now };
    return Math.min(this.#full, saved + Math.max(0, now - askedAt));
  }

  #forgetFull(now: number): void {
    for (const [name, { askedAt }] of this.#buckets) {
      if (now - askedAt < this.#full) return;
      this.#buckets.delete(name);
    }
  }
}
