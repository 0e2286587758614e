// Since when a machine could not renew, as seen from outside: what an outage is measured by. A machine that is down or
// stopped cannot renew either.

/** What an outage has stopped takes this long to go on. */
const AFTERMATH_MS = 60_000;

export class LeaseRenewals {
  readonly #now: () => number;
  #failingSince: number | undefined;
  #isClockWrong = false;
  #last = { ms: 0, endedAt: 0 };
  /** Since the last success. */
  #wasClockWrong = false;

  constructor(now: () => number) {
    this.#now = now;
  }

  /** It tries to, or cannot try. */
  began(): void {
    this.#failingSince ??= this.#now();
  }

  succeeded(): void {
    if (this.#isClockWrong) return;
    const before = this.#now() - this.#last.endedAt < AFTERMATH_MS ? this.#last.ms : 0;
    const ms = this.#failingSince === undefined ? 0 : this.#now() - this.#failingSince;
    if (ms >= before) this.#last = { ms, endedAt: this.#now() };
    this.#failingSince = undefined;
    this.#wasClockWrong = false;
  }

  /** With its wall clock days off a machine believes no new certificate: as good as out of reach. */
  clockWentWrong(): void {
    this.began();
    this.#isClockWrong = true;
    this.#wasClockWrong = true;
  }

  /** After a reboot the wall clock is all there is: was it wrong, nothing is promised. */
  rebooted(): void {
    if (this.#wasClockWrong) this.#failingSince = Number.NEGATIVE_INFINITY;
  }

  clockWasSet(): void {
    this.#isClockWrong = false;
  }

  /** Milliseconds. */
  get outage(): number {
    const last = this.#now() - this.#last.endedAt < AFTERMATH_MS ? this.#last.ms : 0;
    // A call that is under way says nothing of the outage before it.
    return this.#failingSince === undefined ? last : Math.max(last, this.#now() - this.#failingSince);
  }
}
