// Capped exponential backoff with full jitter, and a sleep that an AbortSignal ends.

import { setTimeout as sleep } from 'node:timers/promises';

export class Backoff {
  readonly #firstMs: number;
  readonly #capMs: number;
  #attempt = 0;

  constructor(options: { firstMs: number; capMs: number }) {
    this.#firstMs = options.firstMs;
    this.#capMs = options.capMs;
  }

  /** Forgets past failures. */
  reset(): void {
    this.#attempt = 0;
  }

  /** The next, longer time to wait. Milliseconds. */
  next(): number {
    const bound = Math.min(this.#capMs, this.#firstMs * 2 ** this.#attempt);
    this.#attempt = Math.min(this.#attempt + 1, 30);
    return bound / 2 + (Math.random() * bound) / 2;
  }

  /** Waits for the next, longer time; returns early (without an error) when `signal` aborts. */
  async wait(signal: AbortSignal): Promise<void> {
    await pause(this.next(), signal);
  }
}

/** Sleeps; returns early (without an error) when `signal` aborts. */
export const pause = async (milliseconds: number, signal: AbortSignal): Promise<void> => {
  if (signal.aborted) return;
  await sleep(milliseconds, undefined, { signal }).catch(() => {});
};
