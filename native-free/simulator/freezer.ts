// A process that is stopped (SIGSTOP, a debugger, memory pressure) or whose machine sleeps: what it would have done waits
// and is done at once when it goes on, in order. Its socket keeps so many datagrams; a sleeping machine keeps none.

import type { Counters } from './counters.ts';

const SOCKET_BUFFER = 200;

export class Freezer {
  readonly #counters: Counters;
  #state: 'running' | 'stopped' | 'asleep' = 'running';
  #waiting: (() => void)[] = [];
  #datagrams = 0;

  constructor(counters: Counters) {
    this.#counters = counters;
  }

  get isFrozen(): boolean {
    return this.#state !== 'running';
  }

  /** Nothing on the machine runs, its pods neither. */
  get isAsleep(): boolean {
    return this.#state === 'asleep';
  }

  freeze(state: 'stopped' | 'asleep'): void {
    this.#state = state;
  }

  /** Work of the process, now or when it goes on. */
  run(work: () => void): void {
    if (this.isFrozen) this.#waiting.push(work);
    else work();
  }

  /** False: it is lost. */
  datagram(work: () => void): boolean {
    if (!this.isFrozen) {
      work();
    } else if (this.isAsleep || this.#datagrams >= SOCKET_BUFFER) {
      this.#counters.add('datagrams to a stopped process lost');
      return false;
    } else {
      this.#datagrams++;
      this.#waiting.push(work);
    }
    return true;
  }

  thaw(): void {
    this.#state = 'running';
    const waiting = this.#waiting;
    this.#forget();
    for (const work of waiting) work();
  }

  /** The process died: nobody is there who would do it, and the next one is not stopped. */
  killed(): void {
    if (this.#state === 'stopped') this.#state = 'running';
    this.#forget();
  }

  #forget(): void {
    this.#waiting = [];
    this.#datagrams = 0;
  }
}
