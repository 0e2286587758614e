// TAI64N timestamps of handshake initiations (whitepaper section 5.1): 12 bytes that compare as they sort. A peer
// accepts only greater ones, for ever, so ours never go back even when the wall clock does: each is past the last one
// sent to that peer and, for a peer that none is known of, past all that this device ever sent. That mark has to
// outlive a restart. Nanoseconds are whitened to 2^24 (17 ms), so that they don't tell when exactly a packet was made.

import { Vl3Error } from '../error.ts';
import { TIMESTAMP_LENGTH } from './constants.ts';

/** TAI64's label of 1970, with the ten leap seconds of then. */
const TAI64_EPOCH = 2n ** 62n + 10n;
const NANOSECONDS = 1_000_000_000n;
const STEP = 2n ** 24n;

/** A crash loses what was sent after the mark was last saved: this much, seconds, is allowed for. */
const LOST_AT_MOST = 60n;

export class TimestampClock {
  #mark: Uint8Array;
  /** Until the first timestamp, the mark may be older than the last one sent. */
  #mayBeStale: boolean;

  /** `restoredMark`: 12 B from an earlier `highWaterMark`, or undefined for a new device. */
  constructor(restoredMark?: Uint8Array) {
    if (restoredMark !== undefined && restoredMark.length !== TIMESTAMP_LENGTH) {
      const { length } = restoredMark;
      throw new Vl3Error('invalid-argument', `a timestamp has ${TIMESTAMP_LENGTH} bytes, not ${length}`);
    }
    this.#mark = restoredMark?.slice() ?? new Uint8Array(TIMESTAMP_LENGTH);
    this.#mayBeStale = restoredMark !== undefined;
  }

  /** The greatest timestamp ever given out, 12 B. */
  get highWaterMark(): Uint8Array {
    return this.#mark.slice();
  }

  /** `wallclock` is in milliseconds since 1970; `previous` is what the same peer was sent last. */
  next(wallclock: number, previous: Uint8Array | undefined): Uint8Array {
    const clock = timestampAt(wallclock);
    if (this.#mayBeStale && !isAfter(clock, this.#mark)) this.#mark = later(this.#mark, LOST_AT_MOST);
    this.#mayBeStale = false;
    const floor = previous ?? this.#mark;
    const timestamp = isAfter(clock, floor) ? clock : successor(floor);
    if (isAfter(timestamp, this.#mark)) this.#mark = timestamp.slice();
    return timestamp;
  }
}

export const timestampAt = (wallclock: number): Uint8Array => {
  const seconds = Math.floor(wallclock / 1000);
  const nanoseconds = BigInt(Math.floor((wallclock - seconds * 1000) * 1e6));
  return encode(BigInt(seconds), nanoseconds - (nanoseconds % STEP));
};

/** Whether timestamp `a` is strictly greater than `b`. */
export const isAfter = (a: Uint8Array, b: Uint8Array): boolean => {
  for (let i = 0; i < TIMESTAMP_LENGTH; i++) {
    const difference = (a[i] ?? 0) - (b[i] ?? 0);
    if (difference !== 0) return difference > 0;
  }
  return false;
};

/** The least whitened timestamp past `timestamp`. */
const successor = (timestamp: Uint8Array): Uint8Array => {
  const view = new DataView(timestamp.buffer, timestamp.byteOffset, timestamp.length);
  const seconds = view.getBigUint64(0) - TAI64_EPOCH;
  const nanoseconds = BigInt(view.getUint32(8));
  const next = nanoseconds - (nanoseconds % STEP) + STEP;
  return next < NANOSECONDS ? encode(seconds, next) : encode(seconds + 1n, 0n);
};

const later = (timestamp: Uint8Array, seconds: bigint): Uint8Array => {
  const moved = timestamp.slice();
  const view = new DataView(moved.buffer);
  view.setBigUint64(0, view.getBigUint64(0) + seconds);
  return moved;
};

const encode = (seconds: bigint, nanoseconds: bigint): Uint8Array => {
  const bytes = new Uint8Array(TIMESTAMP_LENGTH);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(0, TAI64_EPOCH + seconds);
  view.setUint32(8, Number(nanoseconds));
  return bytes;
};
