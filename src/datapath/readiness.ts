// epoll(7) over many descriptors, as one that can be polled: asking costs what is ready, not what there is.
//
//   struct epoll_event (linux/eventpoll.h)   0 events u32   then data u64, at 4 on x86-64 and at 8 elsewhere

import {
  close,
  EPOLL_CTL_ADD,
  epollControl,
  epollCreate,
  epollWait,
  O_CLOEXEC,
  POLLIN,
} from '../ffi/libc.ts';
import type { Arena } from '../ffi/memory.ts';

const DATA = process.arch === 'x64' ? 4 : 8;
const EVENT = DATA + 8;
/** Told at once; the others are told the next time. */
const MOST = 64;

/** Bytes that the arena must have for what `Readiness` writes to. */
export const READINESS_ROOM = MOST * EVENT;

export class Readiness {
  readonly fd: number;
  readonly #arena: Arena;
  readonly #events: number;

  /** Of these, those of them that are not negative. `room`: an offset. Undefined where there is no descriptor left for it. */
  static over(fds: readonly number[], arena: Arena, room: number): Readiness | undefined {
    const epoll = epollCreate(O_CLOEXEC);
    if (epoll < 0) return undefined;
    for (const [i, fd] of fds.entries()) {
      arena.view.setUint32(room, POLLIN, true);
      arena.setUint64(room + DATA, i);
      if (fd < 0 || epollControl(epoll, EPOLL_CTL_ADD, fd, arena.address + room) === 0) continue;
      close(epoll);
      return undefined;
    }
    return new Readiness(epoll, arena, room);
  }

  private constructor(fd: number, arena: Arena, events: number) {
    this.fd = fd;
    this.#arena = arena;
    this.#events = events;
  }

  /** How many are ready now. */
  look(): number {
    return Math.max(0, epollWait(this.fd, this.#arena.address + this.#events, MOST, 0));
  }

  /** Which of the descriptors the `i`-th of those is, and what it is ready for, as poll says it. */
  indexOf(i: number): number {
    return this.#arena.view.getUint32(this.#events + i * EVENT + DATA, true);
  }

  eventsOf(i: number): number {
    return this.#arena.view.getUint32(this.#events + i * EVENT, true);
  }

  close(): void {
    close(this.fd);
  }
}
