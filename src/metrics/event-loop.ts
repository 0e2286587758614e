// How late the event loop is: the delays of the last ten seconds, not of all time, so that a stall long ago does not
// hide the next and one now is seen.

import { monitorEventLoopDelay } from 'node:perf_hooks';

const RESOLUTION_MS = 20;
const WINDOW_MS = 10_000;

export interface Lag {
  readonly p99Seconds: number;
  readonly maxSeconds: number;
}

export class EventLoop implements Disposable {
  readonly #histogram = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
  readonly #timer: NodeJS.Timeout;
  #last: Lag = { p99Seconds: 0, maxSeconds: 0 };

  constructor(windowMs = WINDOW_MS) {
    this.#histogram.enable();
    this.#timer = setInterval(() => {
      this.#last = this.#now();
      this.#histogram.reset();
    }, windowMs).unref();
  }

  /** The worse of the last whole window and the one that runs. */
  get lag(): Lag {
    const now = this.#now();
    return {
      p99Seconds: Math.max(now.p99Seconds, this.#last.p99Seconds),
      maxSeconds: Math.max(now.maxSeconds, this.#last.maxSeconds),
    };
  }

  #now(): Lag {
    // The histogram's samples are whole intervals of its timer; an empty one says nonsense.
    const late = (nanoseconds: number): number => Math.max(0, nanoseconds / 1e9 - RESOLUTION_MS / 1000);
    if (this.#histogram.count === 0) return { p99Seconds: 0, maxSeconds: 0 };
    return { p99Seconds: late(this.#histogram.percentile(99)), maxSeconds: late(this.#histogram.max) };
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
    this.#histogram.disable();
  }
}
