// Since when a machine could not renew, as seen from outside: what an outage is measured by. A machine that is down or
// stopped cannot renew either.

export class LeaseRenewals {
  readonly #now: () => number;
  #failingSince: number | undefined;

  constructor(now: () => number) {
    this.#now = now;
  }

  /** It tries to, or cannot try. */
  began(): void {
    this.#failingSince ??= this.#now();
  }

  succeeded(): void {
    this.#failingSince = undefined;
  }

  /** Milliseconds. */
  get outage(): number {
    return this.#failingSince === undefined ? 0 : this.#now() - this.#failingSince;
  }
}
