// The Internet checksum (RFC 1071) over packet memory: ones' complement sums in network order, folded to 16 bits.
// Fast by summing 16-bit words in host order with 32-bit integers and swapping bytes once at the end, which RFC 1071
// section 2 (B) allows. A range is at most 65535 B, so the integer sums cannot overflow.

import { HOST_IS_LITTLE_ENDIAN, type PacketMemory } from './packet-memory.ts';

/** Folds a sum of any number of folded sums to 16 bits, with end-around carry. `sum` is below 2^32. */
export const fold = (sum: number): number => {
  sum = (sum & 0xffff) + (sum >>> 16);
  return (sum & 0xffff) + (sum >>> 16);
};

const swap = (word: number): number => ((word & 0xff) << 8) | (word >>> 8);

/** The folded sum of `length` (at most 65535) bytes; an odd last byte counts as if a zero byte followed. */
export const sum = (memory: PacketMemory, offset: number, length: number): number => {
  const { bytes, words } = memory;
  const end = offset + length;
  // Words are taken from the first even offset on; a range that starts odd has every byte in the other half.
  const isOdd = (offset & 1) === 1 && length > 0;
  let i = (offset + 1) >>> 1;
  const last = end >>> 1;
  let a = 0;
  let b = 0;
  for (const unrolled = last - 7; i < unrolled; i += 8) {
    a = (a + (words[i] ?? 0) + (words[i + 1] ?? 0) + (words[i + 2] ?? 0) + (words[i + 3] ?? 0)) | 0;
    b = (b + (words[i + 4] ?? 0) + (words[i + 5] ?? 0) + (words[i + 6] ?? 0) + (words[i + 7] ?? 0)) | 0;
  }
  for (; i < last; i++) a = (a + (words[i] ?? 0)) | 0;
  let total = fold(fold(a) + fold(b));
  if (HOST_IS_LITTLE_ENDIAN) total = swap(total);
  // Here `total` reads each even offset as the high byte.
  if ((end & 1) === 1 && end - 1 >= offset + (isOdd ? 1 : 0)) total += (bytes[end - 1] ?? 0) << 8;
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
