// Packets that egress has read and not sealed yet, in the order in which they came: while one of them is sealed, what overtakes
// them can be looked for in the TUN behind them. A ring of places for the longest packet there can be, in the worker's arena.

import type { Arena } from '../ffi/memory.ts';
import { HEADROOM } from './aead.ts';
import type { WorkerDevice } from './device-table.ts';

/** Most packets that wait. A super-packet takes about 0.1 ms to seal; with more, what waits is out of the core's cache (0.8 MB). */
export const BACKLOG = 12;

/** What a read can bring: a virtio_net_hdr and an IP packet of 64 KB. */
export const LONGEST_READ = 10 + 65535;
/** And its padding. */
const PLACE = 65536 + 128;
/** Where a read goes: headroom for sealing, and the IP header behind ten bytes at a multiple of 16. */
const READ_OFFSET = 2 * HEADROOM - 10;

export class Backlog {
  readonly #places: number;
  readonly #lengths = new Int32Array(BACKLOG);
  readonly #devices: (WorkerDevice | undefined)[] = new Array(BACKLOG).fill(undefined);
  /** Places that are free, the one that was used last on top: it is most likely in the processor's cache. */
  readonly #free = Int32Array.from({ length: BACKLOG + 1 }, (_, i) => i);
  readonly #placeOf = new Int32Array(BACKLOG);
  #first = 0;
  #count = 0;

  /** Bytes an arena must have for this. */
  static readonly ARENA = (BACKLOG + 1) * PLACE;

  constructor(arena: Arena) {
    this.#places = arena.allocate(Backlog.ARENA) + READ_OFFSET;
  }

  get isEmpty(): boolean {
    return this.#count === 0;
  }

  get isFull(): boolean {
    return this.#count === BACKLOG;
  }

  /** Where to read the next packet to. */
  get free(): number {
    return this.#at(this.#free[BACKLOG - this.#count] ?? 0);
  }

  /** Keeps what was read to `free`, unless it is full. */
  push(device: WorkerDevice, length: number): void {
    const i = (this.#first + this.#count) % BACKLOG;
    this.#placeOf[i] = this.#free[BACKLOG - this.#count] ?? 0;
    this.#lengths[i] = length;
    this.#devices[i] = device;
    this.#count += 1;
  }

  /** Of the oldest: where it is, its length with its virtio_net_hdr, and where it came from. */
  get offset(): number {
    return this.#at(this.#placeOf[this.#first] ?? 0);
  }

  get length(): number {
    return this.#lengths[this.#first] ?? 0;
  }

  get device(): WorkerDevice | undefined {
    return this.#devices[this.#first];
  }

  /** Gives the oldest up. */
  shift(): void {
    this.#devices[this.#first] = undefined;
    this.#count -= 1;
    this.#free[BACKLOG - this.#count] = this.#placeOf[this.#first] ?? 0;
    this.#first = (this.#first + 1) % BACKLOG;
  }

  #at(place: number): number {
    return this.#places + place * PLACE;
  }
}
