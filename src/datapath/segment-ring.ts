// A bounded queue of datagrams in shared memory from one ingress worker to another, without locks: each side owns one position,
// counted in bytes, and publishes it by one atomic store. A datagram never lies across the end: the rest before it is skipped.
//
//   0 head (consumer)   64 tail (producer)   128 records
//
//   record   0 length u32 (SKIP: go on at the beginning)   4 traffic class u32   8 path 44 B   56 datagram   (next: at 8)

import { PATH_LENGTH } from './sockaddr.ts';

const HEAD = 0;
const TAIL = 64;
const RECORDS = 128;
const CAPACITY = 1 << 20;

const TRAFFIC_CLASS = 4;
const PATH = 8;
const DATAGRAM = 56;
const SKIP = 0xffff_ffff;

export const createSegmentRing = (): SharedArrayBuffer => new SharedArrayBuffer(RECORDS + CAPACITY);

export class SegmentRing {
  /** Of the record at hand. */
  length = 0;
  trafficClass = 0;
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #positions: Int32Array;

  constructor(memory: SharedArrayBuffer) {
    this.#bytes = new Uint8Array(memory);
    this.#view = new DataView(memory);
    this.#positions = new Int32Array(memory, 0, RECORDS >> 2);
  }

  /** The producer's: copies a datagram and its path, offsets in `bytes`. False: there is no room. */
  push(bytes: Uint8Array, at: number, length: number, path: number, trafficClass: number): boolean {
    const tail = Atomics.load(this.#positions, TAIL >> 2);
    const free = CAPACITY - ((tail - Atomics.load(this.#positions, HEAD >> 2)) | 0);
    const size = sizeOf(length);
    const beforeEnd = CAPACITY - (tail & (CAPACITY - 1));
    const skipped = beforeEnd < size ? beforeEnd : 0;
    if (skipped + size > free) return false;
    if (skipped > 0) this.#view.setUint32(offsetOf(tail), SKIP, true);
    const to = offsetOf(tail + skipped);
    this.#view.setUint32(to, length, true);
    this.#view.setUint32(to + TRAFFIC_CLASS, trafficClass, true);
    this.#bytes.set(bytes.subarray(path, path + PATH_LENGTH), to + PATH);
    this.#bytes.set(bytes.subarray(at, at + length), to + DATAGRAM);
    Atomics.store(this.#positions, TAIL >> 2, (tail + skipped + size) | 0);
    return true;
  }

  /** The consumer's: copies the next datagram and its path to these offsets in `bytes`. False: there is none. */
  take(bytes: Uint8Array, at: number, path: number): boolean {
    let head = Atomics.load(this.#positions, HEAD >> 2);
    if (head === Atomics.load(this.#positions, TAIL >> 2)) return false;
    if (this.#view.getUint32(offsetOf(head), true) === SKIP) head += CAPACITY - (head & (CAPACITY - 1));
    const from = offsetOf(head);
    this.length = this.#view.getUint32(from, true);
    this.trafficClass = this.#view.getUint32(from + TRAFFIC_CLASS, true);
    bytes.set(this.#bytes.subarray(from + PATH, from + PATH + PATH_LENGTH), path);
    bytes.set(this.#bytes.subarray(from + DATAGRAM, from + DATAGRAM + this.length), at);
    Atomics.store(this.#positions, HEAD >> 2, (head + sizeOf(this.length)) | 0);
    return true;
  }

  /** The producer's: sleeps until there may be more room. */
  waitForRoom(milliseconds: number): void {
    Atomics.wait(this.#positions, HEAD >> 2, Atomics.load(this.#positions, HEAD >> 2), milliseconds);
  }
}

const sizeOf = (length: number): number => (DATAGRAM + length + 7) & ~7;
const offsetOf = (position: number): number => RECORDS + (position & (CAPACITY - 1));
