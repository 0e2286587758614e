// Where one peer can be reached: the endpoint learned from its authenticated packets, and the candidates that its
// record announces, best first. What was learned is never replaced by what is announced; only when handshakes to it
// stay unanswered are candidates tried too, one after another, the learned one among them.

import type { Endpoint } from './data-plane.ts';

/** How many unanswered initiations the learned endpoint gets before candidates are tried. */
const LEARNED_ATTEMPTS = 3;

export class Endpoints {
  #learned: Endpoint | undefined;
  #candidates: readonly Endpoint[];
  #unanswered = 0;

  constructor(candidates: readonly Endpoint[], learned: Endpoint | undefined) {
    this.#candidates = candidates;
    this.#learned = learned;
  }

  get learned(): Endpoint | undefined {
    return this.#learned;
  }

  /** Where packets go; undefined when nothing is known. */
  get current(): Endpoint | undefined {
    return this.#learned ?? this.#candidates[0];
  }

  /** Where the next initiation goes. */
  get forInitiation(): Endpoint | undefined {
    const learned = this.#learned;
    if (learned === undefined) return this.#candidates[this.#unanswered % this.#candidates.length];
    if (this.#unanswered < LEARNED_ATTEMPTS) return learned;
    const others = this.#candidates.filter((one) => !sameEndpoint(one, learned));
    const turn = (this.#unanswered - LEARNED_ATTEMPTS) % (others.length + 1);
    return others[turn] ?? learned;
  }

  announce(candidates: readonly Endpoint[]): void {
    this.#candidates = candidates;
  }

  /** An authenticated packet came from here. True when that is news. */
  learn(endpoint: Endpoint): boolean {
    this.#unanswered = 0;
    if (this.#learned !== undefined && sameEndpoint(this.#learned, endpoint)) return false;
    this.#learned = endpoint;
    return true;
  }

  /** The last initiation was not answered. */
  unanswered(): void {
    this.#unanswered++;
  }
}

export const sameEndpoint = (a: Endpoint, b: Endpoint): boolean =>
  a.port === b.port && a.address === b.address;
