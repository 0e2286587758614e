// Which calls about leases may be under way together, as in src/agent/lease-calls.ts: a renewal runs alone, all others side
// by side. Whoever has to wait is run later.

export class SimulatedLeaseCalls {
  #underWay = 0;
  #isRenewing = false;
  #waiting: (() => void)[] = [];

  /** Runs a call that gets a lease or gives one back; it says when its answer has been written down. */
  run(call: (finish: () => void) => void): void {
    if (this.#isRenewing) {
      this.#waiting.push(() => this.run(call));
      return;
    }
    this.#underWay++;
    call(() => {
      this.#underWay--;
      this.#next();
    });
  }

  renew(renewal: (finish: () => void) => void): void {
    if (this.#isRenewing || this.#underWay > 0) {
      this.#waiting.push(() => this.renew(renewal));
      return;
    }
    this.#isRenewing = true;
    renewal(() => {
      this.#isRenewing = false;
      this.#next();
    });
  }

  #next(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const one of waiting) one();
  }
}
