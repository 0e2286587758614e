// Which calls about leases may be under way together. A renewal names everything this node holds, so a lease that is just
// being got or given back would be missing in it, or named too much: a renewal runs alone, all others side by side.

export class LeaseCalls {
  readonly #underWay = new Set<Promise<unknown>>();
  #renewal: Promise<unknown> | undefined;

  /** Runs a call that gets a lease or gives one back, until its answer has been written down. */
  async run<T>(call: () => Promise<T>): Promise<T> {
    while (this.#renewal !== undefined) await this.#renewal;
    const mine = call();
    this.#underWay.add(mine);
    try {
      return await mine;
    } finally {
      this.#underWay.delete(mine);
    }
  }

  /** Runs a renewal, once the calls under way have ended; those that come meanwhile wait for it. */
  async renew<T>(renewal: () => Promise<T>): Promise<T> {
    while (this.#renewal !== undefined) await this.#renewal;
    const before = Promise.allSettled(this.#underWay);
    const mine = before.then(renewal);
    // Those who wait only want to know when it has ended.
    this.#renewal = mine.then(
      () => undefined,
      () => undefined,
    );
    try {
      return await mine;
    } finally {
      this.#renewal = undefined;
    }
  }
}
