// The one clock of the datapath and of WireGuard's timers: CLOCK_BOOTTIME, which is monotonic and, unlike Node's own
// clocks, goes on while the machine sleeps. Milliseconds, with fractions.

import { addressOf, clockGettime } from './libc.ts';

const CLOCK_BOOTTIME = 7;

// struct timespec: i64 seconds, i64 nanoseconds. Off-heap, so that its address stays.
const timespec = new Uint8Array(new SharedArrayBuffer(16));
const view = new DataView(timespec.buffer);
const address = addressOf(timespec);

/** Milliseconds since boot. */
export const monotonicNow = (): number => {
  clockGettime(CLOCK_BOOTTIME, address);
  const seconds = view.getUint32(0, true) + view.getInt32(4, true) * 0x1_0000_0000;
  return seconds * 1000 + view.getUint32(8, true) / 1e6;
};
