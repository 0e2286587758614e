// poll(2) over a changing set of descriptors, the first of which is the eventfd that wakes its thread. The time-out is
// finite on purpose: a thread that sleeps in a system call for good would keep the process from ever ending. Of the TUNs of many
// networks few have something at a time, and asking all of them costs more than reading from one: they are polled as one.
//
//   struct pollfd 8 B:  0 fd i32   4 events i16   6 revents i16

import { POLLIN, POLLOUT, poll, read } from '../ffi/libc.ts';
import type { Arena } from '../ffi/memory.ts';
import { READINESS_ROOM, Readiness } from './readiness.ts';

const POLLFD = 8;
const EVENTS = 4;
const REVENTS = 6;
/** In place of a descriptor: the kernel passes over it. */
const NOTHING = -1;
const TIMEOUT_MS = 500;
/** Before all others: what wakes the thread, what it waits for room in, and those that are polled as one. */
const OWN = 3;
const ROOM = 1;
const MANY = 2;
/** Up to so many are asked one by one: that is one call less. */
const FEW = 4;

export class Poller {
  /** Those that are always watched. */
  readonly #fixed: number;
  readonly #arena: Arena;
  readonly #fds: number;
  readonly #drain: number;
  readonly #wakeFd: number;
  readonly #capacity: number;
  /** So many of them are polled one by one. */
  #count: number;
  readonly #readinessRoom: number;
  #many: Readiness | undefined;
  /** Those of the many that are ready: how many, and where each is. */
  #ready = 0;
  readonly #readyAt: Int32Array;
  #isHeldBack = false;

  /** Watches these always, at the positions 0, 1, ..., and up to `capacity` others. */
  constructor(arena: Arena, wakeFd: number, capacity: number, fixed: readonly number[] = []) {
    this.#arena = arena;
    this.#wakeFd = wakeFd;
    this.#fixed = fixed.length;
    this.#capacity = OWN + fixed.length + capacity;
    this.#fds = arena.allocate(this.#capacity * POLLFD);
    this.#drain = arena.allocate(8);
    this.#readinessRoom = arena.allocate(READINESS_ROOM);
    this.#readyAt = new Int32Array(capacity);
    this.#set(0, wakeFd, POLLIN);
    this.#set(ROOM, NOTHING, POLLOUT);
    this.#set(MANY, NOTHING, POLLIN);
    fixed.forEach((fd, i) => {
      this.#set(OWN + i, fd, POLLIN);
    });
    this.#count = OWN + fixed.length;
  }

  /** Waits on these, too, in place of those before; returns the position of the first, which the others follow. */
  watch(fds: readonly number[]): number {
    const first = OWN + this.#fixed;
    if (first + fds.length > this.#capacity) throw new RangeError(`cannot watch ${fds.length} descriptors`);
    this.close();
    fds.forEach((fd, i) => {
      this.#set(first + i, fd, POLLIN);
    });
    if (fds.length > FEW) this.#many = Readiness.over(fds, this.#arena, this.#readinessRoom);
    this.#set(MANY, this.#many?.fd ?? NOTHING, POLLIN);
    this.#count = this.#many === undefined ? first + fds.length : first;
    return this.#fixed;
  }

  /** Of what `watch` named, nothing is watched any more. */
  close(): void {
    this.#forgetReady();
    this.#many?.close();
    this.#many = undefined;
    this.#set(MANY, NOTHING, POLLIN);
    this.#count = OWN + this.#fixed;
  }

  /** Whether anything happened. */
  wait(timeoutMs = TIMEOUT_MS): boolean {
    const count = this.#isHeldBack ? OWN + this.#fixed : this.#count;
    this.#forgetReady();
    const ready = poll(this.#arena.address + this.#fds, count, timeoutMs);
    if (ready <= 0) for (let i = 0; i < this.#count; i++) this.#clear(i);
    else if (this.#many !== undefined && this.#eventsOf(MANY) !== 0) this.#findReady(this.#many);
    return ready > 0;
  }

  #findReady(many: Readiness): void {
    this.#ready = many.look();
    for (let i = 0; i < this.#ready; i++) {
      const at = OWN + this.#fixed + many.indexOf(i);
      this.#readyAt[i] = at;
      this.#arena.view.setInt16(this.#fds + at * POLLFD + REVENTS, many.eventsOf(i), true);
    }
  }

  #forgetReady(): void {
    for (let i = 0; i < this.#ready; i++) this.#clear(this.#readyAt[i] ?? 0);
    this.#ready = 0;
  }

  /**
   * Whether this socket could take half of what its buffer holds. If not, what `watch` named is not waited for until it was asked
   * again and could: who has nowhere to put what it reads does not read.
   */
  hasRoom(fd: number): boolean {
    this.#set(ROOM, fd, POLLOUT);
    const isWritable = fd < 0 || poll(this.#arena.address + this.#fds + ROOM * POLLFD, 1, 0) !== 0;
    if (isWritable) this.#set(ROOM, NOTHING, POLLOUT);
    else {
      this.#forgetReady();
      for (let i = OWN + this.#fixed; i < this.#count; i++) this.#clear(i);
    }
    if (isWritable === this.#isHeldBack) {
      this.#isHeldBack = !isWritable;
      this.#set(MANY, isWritable ? (this.#many?.fd ?? NOTHING) : NOTHING, POLLIN);
    }
    return isWritable;
  }

  /** Since the last `hasRoom`. */
  get isHeldBack(): boolean {
    return this.#isHeldBack;
  }

  /** Whether this thread was woken; true once a wake-up. */
  takeWakeup(): boolean {
    if (this.#eventsOf(0) === 0) return false;
    read(this.#wakeFd, this.#arena.address + this.#drain, 8);
    return true;
  }

  /** What happened at that position since: POLLIN and others. */
  eventsAt(position: number): number {
    return this.#eventsOf(OWN + position);
  }

  #eventsOf(i: number): number {
    return this.#arena.view.getInt16(this.#fds + i * POLLFD + REVENTS, true);
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
