// Cuts one UDP datagram into IPv6 fragments (RFC 8200 section 4.5), each within the MTU that every way carries. The kernel
// does that by the path MTU it believes in; where routers keep silent it believes wrongly, and it cannot be told. Fragments
// lie one after the other where they are written, `FRAGMENT_ROOM` apart.
//
//   IPv6      0 version|traffic class|flow   4 payload length   6 next header = 44   7 hop limit   8 addresses
//   fragment  40 next header = 17   42 offset (13 bit), more (1 bit)   44 identification   48 a piece, a multiple of 8 B

import { fold, pseudoHeaderSum, sum } from './checksum.ts';
import {
  IPV6_DESTINATION_OFFSET,
  IPV6_HEADER_LENGTH,
  IPV6_HOP_LIMIT_OFFSET,
  IPV6_NEXT_HEADER_OFFSET,
  IPV6_PAYLOAD_LENGTH_OFFSET,
  IPV6_SOURCE_OFFSET,
  PROTOCOL_FRAGMENT,
  PROTOCOL_UDP,
  UDP_CHECKSUM_OFFSET,
  UDP_HEADER_LENGTH,
  UDP_LENGTH_OFFSET,
} from './ip.ts';
import type { PacketMemory } from './packet-memory.ts';

/** RFC 8200 section 5. */
const FRAGMENT_LENGTH = 1280;
const FRAGMENT_HEADER_LENGTH = 8;
const MORE = 1;
const HEADERS = IPV6_HEADER_LENGTH + FRAGMENT_HEADER_LENGTH;
const PIECE = (FRAGMENT_LENGTH - HEADERS) & ~7;
const HOP_LIMIT = 64;

/** A multiple of 64, so that checksums are taken fast. */
export const FRAGMENT_ROOM = FRAGMENT_LENGTH;

/** How many fragments a datagram of `length` bytes of payload takes. */
export const fragmentCount = (length: number): number => Math.ceil((UDP_HEADER_LENGTH + length) / PIECE);

export interface Fragmented {
  /** Offsets in memory of the addresses, 16 B each. */
  readonly source: number;
  readonly destination: number;
  readonly sourcePort: number;
  readonly destinationPort: number;
  readonly trafficClass: number;
  /** Not used lately between these addresses. */
  readonly identification: number;
}

/**
 * Writes all fragments of the datagram with the `length` bytes at `payload`, the first at `to`, and returns how many there
 * are. `payload` has 8 bytes of room before it, which are overwritten; it must not lie where fragments go.
 */
export const writeFragments = (
  memory: PacketMemory,
  datagram: Fragmented,
  payload: number,
  length: number,
  to: number,
): number => {
  const udp = payload - UDP_HEADER_LENGTH;
  const udpLength = UDP_HEADER_LENGTH + length;
  const count = fragmentCount(length);
  for (let i = 0; i < count; i++) {
    const at = to + i * FRAGMENT_ROOM;
    const from = i * PIECE;
    const piece = Math.min(PIECE, udpLength - from);
    writeHeaders(memory, datagram, at, piece, from | (i < count - 1 ? MORE : 0));
    // The first one's addresses are those of the pseudo-header.
    if (i === 0) writeUdpHeader(memory, datagram, udp, udpLength, at + IPV6_SOURCE_OFFSET);
    memory.bytes.copyWithin(at + HEADERS, udp + from, udp + from + piece);
  }
  return count;
};

/** How long fragment `i` of `count` is, of a datagram of `length` bytes of payload. */
export const fragmentLength = (i: number, count: number, length: number): number =>
  HEADERS + (i < count - 1 ? PIECE : UDP_HEADER_LENGTH + length - i * PIECE);

const writeHeaders = (
  { bytes, view }: PacketMemory,
  { source, destination, trafficClass, identification }: Fragmented,
  at: number,
  piece: number,
  offsetAndMore: number,
): void => {
  view.setUint32(at, 0x6000_0000 | (trafficClass << 20));
  view.setUint16(at + IPV6_PAYLOAD_LENGTH_OFFSET, FRAGMENT_HEADER_LENGTH + piece);
  view.setUint8(at + IPV6_NEXT_HEADER_OFFSET, PROTOCOL_FRAGMENT);
  view.setUint8(at + IPV6_HOP_LIMIT_OFFSET, HOP_LIMIT);
  bytes.copyWithin(at + IPV6_SOURCE_OFFSET, source, source + 16);
  bytes.copyWithin(at + IPV6_DESTINATION_OFFSET, destination, destination + 16);
  const fragment = at + IPV6_HEADER_LENGTH;
  view.setUint16(fragment, PROTOCOL_UDP << 8);
  view.setUint16(fragment + 2, offsetAndMore);
  view.setUint32(fragment + 4, identification);
};

const writeUdpHeader = (
  memory: PacketMemory,
  { sourcePort, destinationPort }: Fragmented,
  udp: number,
  udpLength: number,
  addresses: number,
): void => {
  const { view } = memory;
  view.setUint16(udp, sourcePort);
  view.setUint16(udp + 2, destinationPort);
  view.setUint16(udp + UDP_LENGTH_OFFSET, udpLength);
  view.setUint16(udp + UDP_CHECKSUM_OFFSET, 0);
  const pseudo = pseudoHeaderSum(memory, addresses, 32, PROTOCOL_UDP, udpLength);
  const value = ~fold(pseudo + sum(memory, udp, udpLength)) & 0xffff;
  // No checksum at all is not allowed: nought is written as its equal.
  view.setUint16(udp + UDP_CHECKSUM_OFFSET, value === 0 ? 0xffff : value);
};
