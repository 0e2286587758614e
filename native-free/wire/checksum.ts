// The Internet checksum (RFC 1071) over packet memory: ones' complement sums in network order, folded to 16 bits.
// Fast by reading 32-bit words in host order, summing their halves as integers, and swapping bytes once at the end,
// which RFC 1071 section 2 (B) allows. A range is at most 65535 B, so the integer sums cannot overflow. Most of a long range
// is summed by vector code, where the memory has it.

import { BLOCK } from './block-sum.ts';
import { HOST_IS_LITTLE_ENDIAN, type PacketMemory } from './packet-memory.ts';

/** Folds a sum of any number of folded sums to 16 bits, with end-around carry. `sum` is below 2^32. */
export const fold = (sum: number): number => {
  sum = (sum & 0xffff) + (sum >>> 16);
  return (sum & 0xffff) + (sum >>> 16);
};

/** Below this many bytes the call of vector code costs more than it saves. */
const WORTH_A_CALL = 3 * BLOCK;

const swap = (word: number): number => ((word & 0xff) << 8) | (word >>> 8);

/** The folded sum of `length` (at most 65535) bytes; an odd last byte counts as if a zero byte followed. */
export const sum = (memory: PacketMemory, offset: number, length: number): number => {
  const { bytes, halfWords, words } = memory;
  const end = offset + length;
  // From the first even offset on; in a range that starts odd every byte counts in the other half of its word.
  const isOdd = (offset & 1) === 1 && length > 0;
  let at = (offset + 1) & ~1;
  let low = 0;
  let high = 0;
  if (memory.blockSum !== undefined && end - at >= WORTH_A_CALL) {
    const blocks = Math.floor((end - at) / BLOCK);
    low = fold(memory.blockSum(at, blocks) >>> 0);
    at += blocks * BLOCK;
  }
  if ((at & 2) !== 0 && at + 2 <= end) {
    low += halfWords[at >>> 1] ?? 0;
    at += 2;
  }
  let i = at >>> 2;
  const last = end >>> 2;
  for (const unrolled = last - 3; i < unrolled; i += 4) {
    const a = words[i] ?? 0;
    const b = words[i + 1] ?? 0;
    const c = words[i + 2] ?? 0;
    const d = words[i + 3] ?? 0;
    low = (low + ((a & 0xffff) + (b & 0xffff)) + ((c & 0xffff) + (d & 0xffff))) | 0;
    high = (high + ((a >>> 16) + (b >>> 16)) + ((c >>> 16) + (d >>> 16))) | 0;
  }
  for (; i < last; i++) {
    const a = words[i] ?? 0;
    low = (low + (a & 0xffff)) | 0;
    high = (high + (a >>> 16)) | 0;
  }
  at = Math.max(at, last << 2);
  if (at + 2 <= end) {
    low = (low + (halfWords[at >>> 1] ?? 0)) | 0;
    at += 2;
  }
  let total = fold(fold(low) + fold(high));
  if (HOST_IS_LITTLE_ENDIAN) total = swap(total);
  // Here `total` counts the byte at each even offset as the high one.
  if (at < end) total += (bytes[at] ?? 0) << 8;
  if (isOdd) total = swap(fold(total + (bytes[offset] ?? 0)));
  return fold(total);
};

/** The checksum of a range whose checksum field is zero; verifying a range with its field in gives 0. */
export const checksum = (memory: PacketMemory, offset: number, length: number): number =>
  ~sum(memory, offset, length) & 0xffff;

/**
 * The folded sum of the pseudo-header of TCP and UDP (RFC 9293 section 3.1, RFC 8200 section 8.1). The two addresses
 * lie one after the other at `addresses`; `addressesLength` is 8 or 32. `length` is that of transport header and data.
 */
export const pseudoHeaderSum = (
  memory: PacketMemory,
  addresses: number,
  addressesLength: number,
  protocol: number,
  length: number,
): number => fold(sum(memory, addresses, addressesLength) + protocol + length);

/** What a checksum becomes when one 16-bit word under it changes (RFC 1624, equation 3). */
export const updateChecksum = (old: number, from: number, to: number): number =>
  ~fold((~old & 0xffff) + (~from & 0xffff) + to) & 0xffff;
