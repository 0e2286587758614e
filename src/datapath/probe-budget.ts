// How many probes of its path, and answers, a peer may have passed on to main in a second. They are the one thing inside a
// session that costs main something each: without this, one peer that floods us with them keeps the ring of events full, and
// main too busy for all others.

/** A search sends a volley a few times a second, and is answered as often; it is done within seconds. */
export const PROBES_A_SECOND = 128;

export class ProbeBudget {
  readonly #since: Float64Array;
  readonly #taken: Uint8Array;

  constructor(maxPeers: number) {
    this.#since = new Float64Array(maxPeers);
    this.#taken = new Uint8Array(maxPeers);
  }

  /** Whether one more of the peer's may pass; then it is counted. */
  take(peer: number, now: number): boolean {
    if (now - (this.#since[peer] ?? 0) >= 1000) {
      this.#since[peer] = now;
      this.#taken[peer] = 0;
    }
    const taken = this.#taken[peer] ?? 0;
    if (taken >= PROBES_A_SECOND) return false;
    this.#taken[peer] = taken + 1;
    return true;
  }
}
