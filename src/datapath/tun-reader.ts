// The TUNs that have something to read: each in its turn, packet by packet, until they say that there is no more.

import { EAGAIN, EINTR, errno, read } from '../ffi/libc.ts';
import { LONGEST_READ } from './backlog.ts';
import type { WorkerDevice } from './device-table.ts';

export class TunReader {
  readonly #base: number;
  readonly #lose: (device: WorkerDevice) => void;
  readonly #readable: WorkerDevice[] = [];
  #next = 0;

  /** Reads to offsets from the address `base`; `lose` is told of a TUN that cannot be read any more. */
  constructor(base: number, lose: (device: WorkerDevice) => void) {
    this.#base = base;
    this.#lose = lose;
  }

  /** Forgets all. */
  clear(): void {
    this.#readable.length = 0;
  }

  /** Has something to read. */
  add(device: WorkerDevice): void {
    this.#readable.push(device);
  }

  /** Whose turn it is. */
  get device(): WorkerDevice | undefined {
    return this.#readable[this.#next % this.#readable.length];
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
    const place = this.#next % this.#readable.length;
    const last = this.#readable.pop();
    if (last !== undefined && place < this.#readable.length) this.#readable[place] = last;
    if (code !== EAGAIN) this.#lose(device);
    return 0;
  }
}
