// poll(2) over a changing set of descriptors, the first of which is the eventfd that wakes its thread. The time-out is
// finite on purpose: a thread that sleeps in a system call for good would keep the process from ever ending.
//
//   struct pollfd 8 B:  0 fd i32   4 events i16   6 revents i16

import { POLLIN, POLLOUT, poll, read } from '../ffi/libc.ts';
import type { Arena } from '../ffi/memory.ts';

const POLLFD = 8;
const EVENTS = 4;
const REVENTS = 6;
/** In place of a descriptor: the kernel passes over it. */
const NOTHING = -1;
const TIMEOUT_MS = 500;
/** Before all others: what wakes the thread, and what it waits for room in. */
const OWN = 2;

export class Poller {
  /** Those that are always watched. */
  readonly #fixed: number;
  readonly #arena: Arena;
  readonly #fds: number;
  readonly #drain: number;
  readonly #wakeFd: number;
  readonly #capacity: number;
  #count: number;
  #isHeldBack = false;

  /** Watches these always, at the positions 0, 1, ..., and up to `capacity` others. */
  constructor(arena: Arena, wakeFd: number, capacity: number, fixed: readonly number[] = []) {
    this.#arena = arena;
    this.#wakeFd = wakeFd;
    this.#fixed = fixed.length;
    this.#capacity = OWN + fixed.length + capacity;
    this.#fds = arena.allocate(this.#capacity * POLLFD);
    this.#drain = arena.allocate(8);
    this.#set(0, wakeFd, POLLIN);
    this.#set(1, NOTHING, POLLOUT);
    fixed.forEach((fd, i) => {
      this.#set(OWN + i, fd, POLLIN);
    });
    this.#count = OWN + fixed.length;
  }

  /** Waits on these, too, in place of those before; returns the position of the first, which the others follow. */
  watch(fds: readonly number[]): number {
    const first = OWN + this.#fixed;
    if (first + fds.length > this.#capacity) throw new RangeError(`cannot watch ${fds.length} descriptors`);
    fds.forEach((fd, i) => {
      this.#set(first + i, fd, POLLIN);
    });
    this.#count = first + fds.length;
    return this.#fixed;
  }

  wait(timeoutMs = TIMEOUT_MS): void {
    const count = this.#isHeldBack ? OWN + this.#fixed : this.#count;
    const ready = poll(this.#arena.address + this.#fds, count, timeoutMs);
    if (ready > 0) return;
    for (let i = 0; i < this.#count; i++) this.#clear(i);
  }

  /**
   * Whether this socket could take half of what its buffer holds. If not, what `watch` named is not waited for until it was asked
   * again and could: who has nowhere to put what it reads does not read.
   */
  hasRoom(fd: number): boolean {
    this.#set(1, fd, POLLOUT);
    const isWritable = fd < 0 || poll(this.#arena.address + this.#fds + POLLFD, 1, 0) !== 0;
    if (isWritable) this.#set(1, NOTHING, POLLOUT);
    else for (let i = OWN + this.#fixed; i < this.#count; i++) this.#clear(i);
    this.#isHeldBack = !isWritable;
    return isWritable;
  }

  /** Since the last `hasRoom`. */
  get isHeldBack(): boolean {
    return this.#isHeldBack;
  }

  /** Whether this thread was woken; true once a wake-up. */
  takeWakeup(): boolean {
    if (this.#arena.view.getInt16(this.#fds + REVENTS, true) === 0) return false;
    read(this.#wakeFd, this.#arena.address + this.#drain, 8);
    return true;
  }

  /** What happened at that position since: POLLIN and others. */
  eventsAt(position: number): number {
    return this.#arena.view.getInt16(this.#fds + (OWN + position) * POLLFD + REVENTS, true);
  }

  #set(i: number, fd: number, events: number): void {
    const { view } = this.#arena;
    view.setInt32(this.#fds + i * POLLFD, fd, true);
    view.setInt16(this.#fds + i * POLLFD + EVENTS, events, true);
    this.#clear(i);
  }

  #clear(i: number): void {
    this.#arena.view.setInt16(this.#fds + i * POLLFD + REVENTS, 0, true);
  }
}
