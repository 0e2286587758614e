// The replay window of one receiving keypair (RFC 6479; whitepaper section 5.4.6): a ring of 32768 bits in 32-bit
// words, of which one word is always being reused, so that counters up to 32736 behind the greatest count: more than lie in a full
// socket of datagrams, past which those of sparse flows come. Consulted only after a message has authenticated. Counters come
// in two u32 halves, because the specification's go past a Number's 2^53.

import { REJECT_AFTER_MESSAGES_HIGH, REJECT_AFTER_MESSAGES_LOW } from './constants.ts';

export const REPLAY_BITS = 32_768;
const BITS_PER_WORD = 32;
const WORDS = REPLAY_BITS / BITS_PER_WORD;
const WORDS_PER_HIGH = 2 ** 32 / BITS_PER_WORD;

/** Counters further behind the greatest than this are refused unseen. */
export const REPLAY_WINDOW = REPLAY_BITS - BITS_PER_WORD;

export class ReplayWindow {
  readonly #bitmap = new Uint32Array(WORDS);
  #greatestHigh = 0;
  #greatestLow = 0;

  /** True, once, for a counter that is new; false when it was accepted before, is too old, or is past the limit. */
  accept(high: number, low: number): boolean {
    if (high === REJECT_AFTER_MESSAGES_HIGH && low >= REJECT_AFTER_MESSAGES_LOW) return false;
    // Differences of halves are exact where it matters: nearby counters; far ones only need to compare as far.
    const ahead = (high - this.#greatestHigh) * 2 ** 32 + (low - this.#greatestLow);
    if (ahead < -REPLAY_WINDOW) return false;
    const word = low >>> 5;
    if (ahead > 0) {
      const wordsAhead = (high - this.#greatestHigh) * WORDS_PER_HIGH + (word - (this.#greatestLow >>> 5));
      const stale = Math.min(wordsAhead, WORDS);
      for (let i = 0; i < stale; i++) this.#bitmap[(word - i) & (WORDS - 1)] = 0;
      this.#greatestHigh = high;
      this.#greatestLow = low;
    }
    const bit = 1 << (low & (BITS_PER_WORD - 1));
    const seen = this.#bitmap[word & (WORDS - 1)] ?? 0;
    this.#bitmap[word & (WORDS - 1)] = seen | bit;
    return (seen & bit) === 0;
  }
}
