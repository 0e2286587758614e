// How the kernel shares cores between this thread and others.
//
//   struct sched_attr, version 0, 48 B (include/uapi/linux/sched/types.h):
//     0 size u32   4 policy u32   8 flags u64   16 nice i32   20 priority u32   24 runtime u64   32 deadline u64   40 period u64

import { addressOf, syscall } from './libc.ts';

const SIZE = 48;
const POLICY = 4;
const RUNTIME = 24;
const SCHED_OTHER = 0;

/** sched_setattr and sched_getattr, of which C libraries know only since lately. */
const NUMBERS: Partial<Record<NodeJS.Architecture, { readonly set: number; readonly get: number }>> = {
  x64: { set: 314, get: 315 },
  arm64: { set: 274, get: 275 },
};

// Off-heap, so that its address stays.
const bytes = new Uint8Array(new SharedArrayBuffer(SIZE));
const view = new DataView(bytes.buffer);

/**
 * Has the calling thread run in slices of so many nanoseconds (0.1 to 100 ms): short ones begin sooner when others are running,
 * and end sooner; its share of the core stays. Kernels before 6.12 take it and do nothing. False if it was not taken, as for a
 * thread that somebody has given another policy.
 */
export const setSlice = (nanoseconds: number): boolean => {
  const numbers = NUMBERS[process.arch];
  if (numbers === undefined) return false;
  const address = addressOf(bytes);
  if (syscall(numbers.get, 0, address, SIZE, 0) !== 0 || view.getUint32(POLICY, true) !== SCHED_OTHER)
    return false;
  view.setBigUint64(RUNTIME, BigInt(nanoseconds), true);
  return syscall(numbers.set, 0, address, 0, 0) === 0;
};
