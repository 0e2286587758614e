// Since when a machine could not renew, as seen from outside: what an outage is measured by. A machine that is down or
// stopped cannot renew either.

export class LeaseRenewals {
  readonly #now: () => number;
  #failingSince: number | undefined;
  #isClockWrong = false;

  constructor(now: () => number) {
    this.#now = now;
  }

  /** It tries to, or cannot try. */
  began(): void {
    this.#failingSince ??= this.#now();
  }

  succeeded(): void {
    if (!this.#isClockWrong) this.#failingSince = undefined;
  }

  /** With its wall clock days off a machine believes no new certificate: as good as out of reach. */
  clockWentWrong(): void {
    this.began();
    this.#isClockWrong = true;
  }

  clockWasSet(): void {
    this.#isClockWrong = false;
  }

  /** Milliseconds. */
  get outage(): number {
    return this.#failingSince === undefined ? 0 : this.#now() - this.#failingSince;
  }
}
