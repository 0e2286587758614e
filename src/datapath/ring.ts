// A bounded queue of fixed-size entries in shared memory, one producer thread and one consumer thread, without locks:
// each side owns one position and publishes it by one atomic store. Full means the producer drops (and counts).
//
//   0 head (consumer)   32 wake-up due (both)   64 tail (producer)   128 entries

const HEAD = 0;
const WAKE_UP = 32;
const TAIL = 64;
const ENTRIES = 128;

export interface RingMemory {
  readonly buffer: SharedArrayBuffer;
  /** A multiple of 8. */
  readonly entryLength: number;
  /** A power of two. */
  readonly capacity: number;
}

export const createRing = (entryLength: number, capacity: number): RingMemory => {
  if (entryLength % 8 !== 0 || (capacity & (capacity - 1)) !== 0) throw new RangeError('bad ring dimensions');
  return { buffer: new SharedArrayBuffer(ENTRIES + entryLength * capacity), entryLength, capacity };
};

/** Either end of a ring; use `reserve` and `commit` on one thread, `peek` and `release` on the other. */
export class Ring {
  /** What entries' offsets count in. */
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly #positions: Int32Array;
  readonly #entryLength: number;
  readonly #capacity: number;

  constructor(memory: RingMemory) {
    this.bytes = new Uint8Array(memory.buffer);
    this.view = new DataView(memory.buffer);
    this.#positions = new Int32Array(memory.buffer);
    this.#entryLength = memory.entryLength;
    this.#capacity = memory.capacity;
  }

  /** The producer's next entry, to be filled and committed; -1 when the ring is full. */
  reserve(): number {
    const tail = Atomics.load(this.#positions, TAIL >> 2);
    const used = (tail - Atomics.load(this.#positions, HEAD >> 2)) | 0;
    return used >= this.#capacity ? -1 : this.#offset(tail);
  }

  commit(): void {
    Atomics.store(this.#positions, TAIL >> 2, (Atomics.load(this.#positions, TAIL >> 2) + 1) | 0);
  }

  /** The consumer's next entry, to be read and released; -1 when the ring is empty. */
  peek(): number {
    const head = Atomics.load(this.#positions, HEAD >> 2);
    return head === Atomics.load(this.#positions, TAIL >> 2) ? -1 : this.#offset(head);
  }

  release(): void {
    Atomics.store(this.#positions, HEAD >> 2, (Atomics.load(this.#positions, HEAD >> 2) + 1) | 0);
  }

  /** How many entries wait for the consumer. */
  get length(): number {
    return (Atomics.load(this.#positions, TAIL >> 2) - Atomics.load(this.#positions, HEAD >> 2)) | 0;
  }

  /** The producer is about to wake the consumer: false when an earlier wake-up is still on its way. */
  claimWakeUp(): boolean {
    return Atomics.exchange(this.#positions, WAKE_UP >> 2, 1) === 0;
  }

  /** The consumer is awake, and looks at the ring after this. */
  clearWakeUp(): void {
    Atomics.store(this.#positions, WAKE_UP >> 2, 0);
  }

  #offset(position: number): number {
    return ENTRIES + (position & (this.#capacity - 1)) * this.#entryLength;
  }
}
