// poll(2) over a changing set of descriptors, the first of which is the eventfd that wakes its thread. The time-out is
// finite on purpose: a thread that sleeps in a system call for good would keep the process from ever ending.
//
//   struct pollfd 8 B:  0 fd i32   4 events i16   6 revents i16

import { POLLIN, poll, read } from '../ffi/libc.ts';
import type { Arena } from '../ffi/memory.ts';

const POLLFD = 8;
const EVENTS = 4;
const REVENTS = 6;
const TIMEOUT_MS = 500;

export class Poller {
  /** Those that are always watched. */
  readonly #fixed: number;
  readonly #arena: Arena;
  readonly #fds: number;
  readonly #drain: number;
  readonly #wakeFd: number;
  readonly #capacity: number;
  #count = 1;

  /** Watches these always, at the positions 0, 1, ..., and up to `capacity` others. */
  constructor(arena: Arena, wakeFd: number, capacity: number, fixed: readonly number[] = []) {
    this.#arena = arena;
    this.#wakeFd = wakeFd;
    this.#fixed = fixed.length;
    this.#capacity = 1 + fixed.length + capacity;
    this.#fds = arena.allocate(this.#capacity * POLLFD);
    this.#drain = arena.allocate(8);
    this.#set(0, wakeFd);
    fixed.forEach((fd, i) => {
      this.#set(1 + i, fd);
    });
    this.#count = 1 + fixed.length;
  }

  /** Waits on these, too, in place of those before; returns the position of the first, which the others follow. */
  watch(fds: readonly number[]): number {
    const first = 1 + this.#fixed;
    if (first + fds.length > this.#capacity) throw new RangeError(`cannot watch ${fds.length} descriptors`);
    fds.forEach((fd, i) => {
      this.#set(first + i, fd);
    });
    this.#count = first + fds.length;
    return this.#fixed;
  }

  wait(timeoutMs = TIMEOUT_MS): void {
    const ready = poll(this.#arena.address + this.#fds, this.#count, timeoutMs);
    if (ready > 0) return;
    for (let i = 0; i < this.#count; i++)
      this.#arena.view.setInt16(this.#fds + i * POLLFD + REVENTS, 0, true);
  }

  /** Whether this thread was woken; true once a wake-up. */
  takeWakeup(): boolean {
    if (this.#arena.view.getInt16(this.#fds + REVENTS, true) === 0) return false;
    read(this.#wakeFd, this.#arena.address + this.#drain, 8);
    return true;
  }

  /** What happened at that position since: POLLIN and others. */
  eventsAt(position: number): number {
    return this.#arena.view.getInt16(this.#fds + (position + 1) * POLLFD + REVENTS, true);
  }

  #set(i: number, fd: number): void {
    const { view } = this.#arena;
    view.setInt32(this.#fds + i * POLLFD, fd, true);
    view.setInt16(this.#fds + i * POLLFD + EVENTS, POLLIN, true);
    view.setInt16(this.#fds + i * POLLFD + REVENTS, 0, true);
  }
}
