// Which of a port's receivers the messages of a session come to: a session's receiver index ends in the number of its lane.
// All sessions with one endpoint share a lane, since the kernel joins what comes from one endpoint before anybody looks at
// receiver indices; a new endpoint gets the lane with the fewest sessions.

import type { Endpoint } from '../device/data-plane.ts';

interface Shared {
  readonly lane: number;
  sessions: number;
}

export class Lanes {
  /** A power of two. */
  readonly count: number;
  readonly #sessions: number[];
  readonly #byEndpoint = new Map<string, Shared>();

  constructor(count: number) {
    if (count < 1 || (count & (count - 1)) !== 0) throw new RangeError(`${count} lanes: not a power of two`);
    this.count = count;
    this.#sessions = new Array<number>(count).fill(0);
  }

  /** The lane of one more session with `endpoint`. */
  join(endpoint: Endpoint): number {
    const key = keyOf(endpoint);
    const shared = this.#byEndpoint.get(key) ?? { lane: this.#emptiest(), sessions: 0 };
    shared.sessions += 1;
    this.#byEndpoint.set(key, shared);
    this.#sessions[shared.lane] = (this.#sessions[shared.lane] ?? 0) + 1;
    return shared.lane;
  }

  /** One session less with `endpoint`. */
  leave(endpoint: Endpoint): void {
    const key = keyOf(endpoint);
    const shared = this.#byEndpoint.get(key);
    if (shared === undefined) return;
    shared.sessions -= 1;
    if (shared.sessions === 0) this.#byEndpoint.delete(key);
    this.#sessions[shared.lane] = (this.#sessions[shared.lane] ?? 0) - 1;
  }

  #emptiest(): number {
    return this.#sessions.indexOf(Math.min(...this.#sessions));
  }
}

const keyOf = ({ address, port }: Endpoint): string => `${address} ${port}`;
