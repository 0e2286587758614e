// Which keypair listens on which receiver index, in shared memory: a hash table with open addressing, written by main and
// read by ingress. Its entries are pairs of receiver index and slot + 1 (atomic; 0: free, -1: was in use).

export const NO_SLOT = -1;

const ENTRY_LENGTH = 8;
const ENTRY_SLOT = 4;
const ENTRY_FREE = 0;
const ENTRY_WAS_USED = -1;
/** Entries per keypair slot: chains stay short. */
const ENTRIES_PER_KEYPAIR = 4;

export class IndexTable {
  readonly #i32: Int32Array;
  readonly #first: number;
  readonly #mask: number;

  /** Its entries begin at `first` in the memory; `maxKeypairs` is a power of two. */
  constructor(memory: SharedArrayBuffer, first: number, maxKeypairs: number) {
    this.#i32 = new Int32Array(memory);
    this.#first = first;
    this.#mask = maxKeypairs * ENTRIES_PER_KEYPAIR - 1;
  }

  /** Bytes that it takes. */
  static length(maxKeypairs: number): number {
    return maxKeypairs * ENTRIES_PER_KEYPAIR * ENTRY_LENGTH;
  }

  /** The slot that was entered under this index (signed), or NO_SLOT. It may have changed hands by now: ask the slot itself. */
  find(index: number): number {
    let entry = index & this.#mask;
    for (let i = 0; i <= this.#mask; i++) {
      const slot = Atomics.load(this.#i32, this.#slotAt(entry));
      if (slot === ENTRY_FREE) return NO_SLOT;
      if (slot > 0 && this.#i32[this.#indexAt(entry)] === index) return slot - 1;
      entry = (entry + 1) & this.#mask;
    }
    return NO_SLOT;
  }

  /** Main. */
  insert(index: number, slot: number): void {
    let entry = index & this.#mask;
    for (;;) {
      const used = Atomics.load(this.#i32, this.#slotAt(entry));
      if (used === ENTRY_FREE || used === ENTRY_WAS_USED) {
        this.#i32[this.#indexAt(entry)] = index;
        Atomics.store(this.#i32, this.#slotAt(entry), slot + 1);
        return;
      }
      entry = (entry + 1) & this.#mask;
    }
  }

  /** Main. */
  remove(index: number): void {
    let entry = index & this.#mask;
    for (;;) {
      const slot = Atomics.load(this.#i32, this.#slotAt(entry));
      if (slot === ENTRY_FREE) return;
      if (slot > 0 && this.#i32[this.#indexAt(entry)] === index) break;
      entry = (entry + 1) & this.#mask;
    }
    Atomics.store(this.#i32, this.#slotAt(entry), ENTRY_WAS_USED);
    // At the end of a chain nothing needs to be stepped over any more.
    if (Atomics.load(this.#i32, this.#slotAt((entry + 1) & this.#mask)) !== ENTRY_FREE) return;
    while (Atomics.load(this.#i32, this.#slotAt(entry)) === ENTRY_WAS_USED) {
      Atomics.store(this.#i32, this.#slotAt(entry), ENTRY_FREE);
      entry = (entry - 1) & this.#mask;
    }
  }

  #indexAt(entry: number): number {
    return (this.#first + entry * ENTRY_LENGTH) >> 2;
  }

  #slotAt(entry: number): number {
    return (this.#first + entry * ENTRY_LENGTH + ENTRY_SLOT) >> 2;
  }
}
