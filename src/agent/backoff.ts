// Waiting before something that failed is tried again, and a sleep that an AbortSignal ends. How long is
// native-free/reconcile/backoff.ts.

import { setTimeout as sleep } from 'node:timers/promises';
import { type BackoffOptions, backoffMs } from '../../native-free/reconcile/backoff.ts';

export class Backoff {
  readonly #options: BackoffOptions;
  #failures = 0;
  #waiting: AbortController | undefined;

  constructor(options: BackoffOptions) {
    this.#options = options;
  }

  /** Forgets past failures. */
  reset(): void {
    this.#failures = 0;
  }

  /** The next, longer time to wait. Milliseconds. */
  next(): number {
    return backoffMs(this.#options, this.#failures++, Math.random());
  }

  /** Waits for the next, longer time; returns early (without an error) when `signal` aborts, or is hurried. */
  async wait(signal: AbortSignal): Promise<void> {
    this.#waiting = new AbortController();
    await pause(this.next(), AbortSignal.any([signal, this.#waiting.signal]));
    this.#waiting = undefined;
  }

  /** There is reason to believe that it succeeds now: ends the wait there is, and forgets past failures. */
  hurry(): void {
    this.reset();
    this.#waiting?.abort();
  }
}

/** Sleeps; returns early (without an error) when `signal` aborts. */
export const pause = async (milliseconds: number, signal: AbortSignal): Promise<void> => {
  if (signal.aborted) return;
  await sleep(milliseconds, undefined, { signal }).catch(() => {});
};
