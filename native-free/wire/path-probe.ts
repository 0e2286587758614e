// What two vl3 devices say to each other, inside a session, to find out how large a datagram the way between them carries
// (RFC 8899): a probe, padded to the size in question, and its short answer. No IP version begins with 0, so a stock
// WireGuard peer authenticates and drops it, as it does everything inside that is not IP. Integers are little-endian.
//
//   0 nought   1 "vl3"   4 kind (1 probe, 2 answer)   8 sequence u32   12 zeros, as long as it takes

import type { PacketMemory } from './packet-memory.ts';

/** Read as a big-endian u32. */
const MARK = 0x00_76_6c_33;
const KIND_OFFSET = 4;
const SEQUENCE_OFFSET = 8;

/** A probe is at least this long, an answer exactly: a multiple of 16, as all that is sealed. */
export const PATH_PROBE_LENGTH = 16;

export const PROBE = 1;
export const PROBE_ANSWER = 2;

/** Writes one of `length` bytes to `at`; its answer carries the same sequence number. */
export const writePathProbe = (
  { bytes, view }: PacketMemory,
  at: number,
  length: number,
  kind: number,
  sequence: number,
): void => {
  bytes.fill(0, at, at + length);
  view.setUint32(at, MARK);
  view.setUint32(at + KIND_OFFSET, kind, true);
  view.setUint32(at + SEQUENCE_OFFSET, sequence, true);
};

/** PROBE or PROBE_ANSWER; 0: it is neither. */
export const pathProbeKind = ({ view }: PacketMemory, at: number, length: number): number => {
  if (length < PATH_PROBE_LENGTH || view.getUint32(at) !== MARK) return 0;
  const kind = view.getUint32(at + KIND_OFFSET, true);
  return kind === PROBE || kind === PROBE_ANSWER ? kind : 0;
};

/** Of what `pathProbeKind` has recognized. */
export const pathProbeSequence = ({ view }: PacketMemory, at: number): number =>
  view.getUint32(at + SEQUENCE_OFFSET, true);
