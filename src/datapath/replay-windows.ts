// The replay windows of all keypair slots, in one array (RFC 6479; whitepaper section 5.4.6). One thread's own: the
// ingress worker checks and updates after a packet has authenticated, in one step. Counters are below 2^53. The
// readable twin, one object a keypair, is native-free/noise/replay.ts; a test holds the two together.

import { REPLAY_BITS, REPLAY_WINDOW } from '../../native-free/noise/replay.ts';

const WORDS = REPLAY_BITS / 32;
const WORD_MASK = WORDS - 1;

export class ReplayWindows {
  readonly #bitmaps: Uint32Array;
  /** One past the highest counter seen; 0: none. */
  readonly #next: Float64Array;

  constructor(slots: number) {
    this.#bitmaps = new Uint32Array(slots * WORDS);
    this.#next = new Float64Array(slots);
  }

  /** Forgets what the slot's former keypair received. */
  reset(slot: number): void {
    this.#bitmaps.fill(0, slot * WORDS, (slot + 1) * WORDS);
    this.#next[slot] = 0;
  }

  /** True, and remembered, when this counter is new; false when it was seen before or is too old to tell. */
  accept(slot: number, counter: number): boolean {
    const next = this.#next[slot] ?? 0;
    if (counter + 1 + REPLAY_WINDOW < next) return false;
    const base = slot * WORDS;
    const word = Math.floor(counter / 32);
    if (counter >= next) {
      const from = next === 0 ? -1 : Math.floor((next - 1) / 32);
      const stale = Math.min(word - from, WORDS);
      for (let i = 1; i <= stale; i++) this.#bitmaps[base + ((word - stale + i) & WORD_MASK)] = 0;
      this.#next[slot] = counter + 1;
    }
    const at = base + (word & WORD_MASK);
    const bits = this.#bitmaps[at] ?? 0;
    const bit = 1 << (counter % 32);
    if ((bits & bit) !== 0) return false;
    this.#bitmaps[at] = bits | bit;
    return true;
  }
}
