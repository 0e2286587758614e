// Which calls about leases may be under way together. A renewal names everything this node holds, so a lease that is just
// being got or given back would be missing in it, or named too much: a renewal runs alone, all others side by side. Who
// calls, and how, its owner knows: what has to wait is begun later.

/** Begins something that says, once, when its answer has been written down. */
export type Begin = (finish: () => void) => void;

export class LeaseCalls {
  #underWay = 0;
  #isRenewing = false;
  readonly #renewals: Begin[] = [];
  #calls: Begin[] = [];

  /** A call that gets a lease or gives one back: at once, or when the renewals that were asked for before have ended. */
  run(call: Begin): void {
    if (this.#isRenewing || this.#renewals.length > 0) this.#calls.push(call);
    else this.#begin(call);
  }

  /** A renewal, once the calls under way have ended; those that come meanwhile wait for it. */
  renew(renewal: Begin): void {
    this.#renewals.push(renewal);
    this.#next();
  }

  #begin(call: Begin): void {
    this.#underWay++;
    call(() => {
      this.#underWay--;
      this.#next();
    });
  }

  #next(): void {
    if (this.#isRenewing || this.#underWay > 0) return;
    const renewal = this.#renewals.shift();
    if (renewal !== undefined) {
      this.#isRenewing = true;
      renewal(() => {
        this.#isRenewing = false;
        this.#next();
      });
      return;
    }
    const calls = this.#calls;
    this.#calls = [];
    for (const call of calls) this.run(call);
  }
}
