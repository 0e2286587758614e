// The one clock of the datapath and of WireGuard's timers: CLOCK_BOOTTIME, which is monotonic and, unlike Node's own
// clocks, goes on while the machine sleeps. Milliseconds, with fractions.

import { addressOf, clockGettime } from './libc.ts';

const CLOCK_BOOTTIME = 7;

// struct timespec: i64 seconds, i64 nanoseconds. Off-heap, so that its address stays. By its words: V8 calls a function for
// each field of a DataView of shared memory.
const timespec = new Uint32Array(new SharedArrayBuffer(16));
const address = addressOf(new Uint8Array(timespec.buffer));

/** Milliseconds since boot. */
export const monotonicNow = (): number => {
  clockGettime(CLOCK_BOOTTIME, address);
  return ((timespec[0] ?? 0) + (timespec[1] ?? 0) * 0x1_0000_0000) * 1000 + (timespec[2] ?? 0) / 1e6;
};
