// When each of many things is due next, so that what is not due costs nothing: a binary heap, the earliest on top, in which
// each thing is once at most. It knows no clock.

interface Entry<T> {
  readonly item: T;
  at: number;
  /** Where it is in the heap. */
  place: number;
}

const NEVER = Number.POSITIVE_INFINITY;

export class Deadlines<T> {
  readonly #heap: Entry<T>[] = [];
  readonly #entries = new Map<T, Entry<T>>();

  /** The earliest of all; Infinity: nothing will be due. */
  get next(): number {
    return this.#heap[0]?.at ?? NEVER;
  }

  /** From now on `item` is due at `at` and at no other time; Infinity: never. */
  set(item: T, at: number): void {
    const entry = this.#entries.get(item);
    if (at === NEVER) {
      if (entry !== undefined) this.#remove(entry);
    } else if (entry === undefined) {
      const added = { item, at, place: this.#heap.length };
      this.#entries.set(item, added);
      this.#settle(added);
    } else if (entry.at !== at) {
      entry.at = at;
      this.#settle(entry);
    }
  }

  delete(item: T): void {
    this.set(item, NEVER);
  }

  /** All that is due at `now`, in no order. It stays due until it is set anew. */
  due(now: number): T[] {
    const found: T[] = [];
    const places = [0];
    for (let place = places.pop(); place !== undefined; place = places.pop()) {
      const entry = this.#heap[place];
      // What lies below is due later.
      if (entry === undefined || entry.at > now) continue;
      found.push(entry.item);
      places.push(place * 2 + 1, place * 2 + 2);
    }
    return found;
  }

  #remove(entry: Entry<T>): void {
    this.#entries.delete(entry.item);
    const last = this.#heap.pop();
    if (last === undefined || last === entry) return;
    last.place = entry.place;
    this.#settle(last);
  }

  /** Puts it where it belongs: above all that is due later, below all that is due before. */
  #settle(entry: Entry<T>): void {
    for (;;) {
      const above = this.#heap[(entry.place - 1) >> 1];
      if (above === undefined || above.at <= entry.at) break;
      this.#lift(above, entry);
    }
    for (;;) {
      const left = this.#heap[entry.place * 2 + 1];
      const right = this.#heap[entry.place * 2 + 2];
      const below = right === undefined || (left !== undefined && left.at <= right.at) ? left : right;
      if (below === undefined || below.at >= entry.at) break;
      this.#lift(below, entry);
    }
    this.#heap[entry.place] = entry;
  }

  /** Moves `other` to the place of `entry`, which moves to the place of `other`. */
  #lift(other: Entry<T>, entry: Entry<T>): void {
    const { place } = other;
    other.place = entry.place;
    this.#heap[other.place] = other;
    entry.place = place;
  }
}
