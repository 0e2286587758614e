// Asks again and again for a moment before a thread goes to sleep. Who has asked a near peer sleeps for as long as the answer takes,
// and to be woken takes as long again: the processor was halted, and its caches are cold. So after one packet that left alone, out
// of quiet, the thread stays awake for what comes; each time in vain makes the next time rarer, and all of it takes a twentieth of a
// processor at most. Who has work all the time is awake anyway, and needs the processor for it.

import { availableParallelism } from 'node:os';
import { monotonicNow } from '../ffi/clock.ts';
import type { Poller } from './poller.ts';

const AT_ONCE = 0;
const LONGEST_MS = 0.4;
/** Of a processor's time; how much of it may be saved. */
const SHARE = 1 / 20;
const SAVED_MS = 20;
/** So many times at most are let pass before it is tried again. */
const MOST_PASSED = 255;
const QUIET_MS = 1;

/** So long without work is quiet, ms. Where there is one processor, nothing is: who is to answer may be waiting for it. */
export const quietOn = (processors = availableParallelism()): number =>
  processors === 1 ? Number.POSITIVE_INFINITY : QUIET_MS;

export class BusyPoll {
  readonly #poller: Pick<Poller, 'wait'>;
  readonly #quietMs: number;
  readonly #now: () => number;
  #workedAt = 0;
  #hasAsked = false;
  #savedMs = SAVED_MS;
  #savedAt: number;
  /** Times between two tries; those still to pass. */
  #passes = 0;
  #toPass = 0;

  /** `now`: a clock, ms. */
  constructor(poller: Pick<Poller, 'wait'>, quietMs: number, now: () => number = monotonicNow) {
    this.#poller = poller;
    this.#quietMs = quietMs;
    this.#now = now;
    this.#savedAt = now();
  }

  /** To be told after each turn: when it began on what it did last, and whether that was no more than to send one packet. */
  turned(workedAt: number, hasSentOne: boolean): void {
    this.#hasAsked = hasSentOne && workedAt - this.#workedAt >= this.#quietMs;
    this.#workedAt = workedAt;
  }

  /** Polls busily, if that is worth it now. Whether anything came. */
  wait(): boolean {
    if (!this.#hasAsked) return false;
    this.#hasAsked = false;
    if (this.#toPass > 0) {
      this.#toPass -= 1;
      return false;
    }
    const start = this.#now();
    this.#savedMs = Math.min(SAVED_MS, this.#savedMs + (start - this.#savedAt) * SHARE);
    this.#savedAt = start;
    if (this.#savedMs < LONGEST_MS) return false;
    let took = 0;
    let hasCome = false;
    while (!hasCome && took < LONGEST_MS) {
      hasCome = this.#poller.wait(AT_ONCE);
      took = this.#now() - start;
    }
    // Who was stopped meanwhile, or whose machine slept, has not used that time.
    this.#savedMs = Math.max(0, this.#savedMs - took);
    this.#passes = hasCome ? this.#passes >> 2 : Math.min(2 * this.#passes + 1, MOST_PASSED);
    this.#toPass = this.#passes;
    return hasCome;
  }
}
