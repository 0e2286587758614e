// Virtual time: a heap of events ordered by time and, within one moment, by when they were asked for. Nothing else in
// the simulator makes anything happen. Milliseconds; time jumps from event to event. Nor can anything go on for ever: whoever
// judges is told when too much happens at once, or at all.

import type { Trace } from './trace.ts';

export interface Timer {
  cancel(): void;
}

interface Event {
  readonly time: number;
  readonly sequence: number;
  readonly label: string;
  /** Undefined once it was cancelled. */
  run: (() => void) | undefined;
}

/** At one moment: everything that does more goes round in circles. */
const MOST_AT_ONCE = 50_000;
/** Many times what the largest plan takes. */
const MOST_EVENTS = 2_000_000;

export class Scheduler {
  readonly #heap: Event[] = [];
  readonly #trace: Trace;
  #sequence = 0;
  #now = 0;
  #executed = 0;
  readonly #onLivelock: (message: string) => never;
  /** Events carried out before the present moment. */
  #before = 0;

  constructor(trace: Trace, onLivelock: (message: string) => never) {
    this.#trace = trace;
    this.#onLivelock = onLivelock;
  }

  get now(): number {
    return this.#now;
  }

  /** Events carried out. */
  get executed(): number {
    return this.#executed;
  }

  /** Events that wait, cancelled ones included until their time comes. */
  get pending(): number {
    return this.#heap.length;
  }

  /** Runs `run` at `time`, or now if that is past. The label goes into the trace. */
  at(time: number, label: string, run: () => void): Timer {
    const event: Event = { time: Math.max(time, this.#now), sequence: this.#sequence++, label, run };
    this.#push(event);
    return {
      cancel() {
        event.run = undefined;
      },
    };
  }

  after(delay: number, label: string, run: () => void): Timer {
    return this.at(this.#now + delay, label, run);
  }

  /** Runs `run` every `period`, for the first time after `first`, until it is cancelled. */
  every(period: number, first: number, label: string, run: () => void): Timer {
    let next: Timer;
    const again = (): void => {
      next = this.after(period, label, again);
      run();
    };
    next = this.after(first, label, again);
    return {
      cancel() {
        next.cancel();
      },
    };
  }

  /** Carries out everything up to and at `time`. `isOver` is asked after each event. */
  runUntil(time: number, isOver: () => boolean = () => false): void {
    for (let event = this.#heap[0]; event !== undefined && event.time <= time; event = this.#heap[0]) {
      this.#pop();
      if (event.run === undefined) continue;
      this.#count(event);
      this.#trace.note(event.time, event.label);
      event.run();
      if (isOver()) return;
    }
    this.#now = Math.max(this.#now, time);
  }

  #count({ time, label }: Event): void {
    if (time > this.#now) this.#before = this.#executed;
    this.#now = time;
    this.#executed++;
    if (this.#executed - this.#before > MOST_AT_ONCE)
      this.#onLivelock(`${MOST_AT_ONCE} events at ${time}, and time does not go on: the last is "${label}"`);
    if (this.#executed > MOST_EVENTS)
      this.#onLivelock(`${MOST_EVENTS} events, and it does not end: the last is "${label}"`);
  }

  #push(event: Event): void {
    const heap = this.#heap;
    let index = heap.length;
    heap.push(event);
    while (index > 0) {
      const above = (index - 1) >> 1;
      const parent = heap[above];
      if (parent === undefined || !isBefore(event, parent)) break;
      heap[index] = parent;
      index = above;
    }
    heap[index] = event;
  }

  #pop(): void {
    const heap = this.#heap;
    const last = heap.pop();
    if (last === undefined || heap.length === 0) return;
    let index = 0;
    for (;;) {
      const left = heap[2 * index + 1];
      const right = heap[2 * index + 2];
      if (left === undefined) break;
      const side = right !== undefined && isBefore(right, left) ? 2 : 1;
      const child = side === 2 && right !== undefined ? right : left;
      if (!isBefore(child, last)) break;
      heap[index] = child;
      index = 2 * index + side;
    }
    heap[index] = last;
  }
}

const isBefore = (a: Event, b: Event): boolean =>
  a.time < b.time || (a.time === b.time && a.sequence < b.sequence);
