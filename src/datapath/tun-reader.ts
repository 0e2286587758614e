// The TUNs that have something to read: each in its turn, packet by packet, until they say that there is no more.

import { EAGAIN, EINTR, errno, read } from '../ffi/libc.ts';
import { LONGEST_READ } from './backlog.ts';
import type { WorkerDevice } from './device-table.ts';

export class TunReader {
  readonly #base: number;
  readonly #lose: (device: WorkerDevice) => void;
  /** The first so many; an array that is made shorter and longer again costs more than a read. */
  readonly #readable: (WorkerDevice | undefined)[];
  #count = 0;
  #next = 0;

  /** Reads to offsets from the address `base`, from at most `most` TUNs; `lose` is told of one that cannot be read any more. */
  constructor(base: number, most: number, lose: (device: WorkerDevice) => void) {
    this.#base = base;
    this.#lose = lose;
    this.#readable = new Array(most).fill(undefined);
  }

  /** Forgets all. */
  clear(): void {
    this.#count = 0;
  }

  /** Has something to read. */
  add(device: WorkerDevice): void {
    this.#readable[this.#count] = device;
    this.#count += 1;
  }

  /** Whose turn it is. */
  get device(): WorkerDevice | undefined {
    if (this.#count === 0) return undefined;
    if (this.#next >= this.#count) this.#next = 0;
    return this.#readable[this.#next];
  }

  /** The length of what was read from that device, with its virtio_net_hdr, or 0; then it is the next one's turn. */
  read(device: WorkerDevice, at: number): number {
    const length = read(device.fd, this.#base + at, LONGEST_READ);
    if (length > 0) {
      this.#next += 1;
      return length;
    }
    const code = length < 0 ? errno() : 0;
    if (code === EINTR) return 0;
    this.#count -= 1;
    this.#readable[this.#next] = this.#readable[this.#count];
    if (code !== EAGAIN) this.#lose(device);
    return 0;
  }
}
