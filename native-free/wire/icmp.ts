// ICMP and ICMPv6 errors about a packet that cannot go where it is sent, or is too big for the way there (RFC 792, RFC 1191,
// RFC 4443): what a router would answer. The answer comes from the packet's own destination, since a tunnel has no address
// of its own, as if that host had said so.
//
//   0 type   1 code   2 checksum   4 unused, or the MTU (v4: its lower half)   8 the start of the packet

import { checksum, fold, pseudoHeaderSum, sum } from './checksum.ts';
import {
  IPV4_CHECKSUM_OFFSET,
  IPV4_DESTINATION_OFFSET,
  IPV4_DONT_FRAGMENT,
  IPV4_FRAGMENT_MASK,
  IPV4_FRAGMENT_OFFSET,
  IPV4_HEADER_LENGTH,
  IPV4_PROTOCOL_OFFSET,
  IPV4_SOURCE_OFFSET,
  IPV4_TOTAL_LENGTH_OFFSET,
  IPV4_TTL_OFFSET,
  IPV6_DESTINATION_OFFSET,
  IPV6_HEADER_LENGTH,
  IPV6_HOP_LIMIT_OFFSET,
  IPV6_NEXT_HEADER_OFFSET,
  IPV6_PAYLOAD_LENGTH_OFFSET,
  IPV6_SOURCE_OFFSET,
  type IpHeader,
} from './ip.ts';
import type { PacketMemory } from './packet-memory.ts';

const PROTOCOL_ICMP = 1;
const PROTOCOL_ICMPV6 = 58;
const ICMP_HEADER_LENGTH = 8;
const ICMP_CHECKSUM_OFFSET = 2;
const ICMP_MTU_OFFSET = 4;

const V4_UNREACHABLE = 3;
const V4_HOST_UNREACHABLE = 1;
const V4_FRAGMENTATION_NEEDED = 4;
const V6_UNREACHABLE = 1;
const V6_ADDRESS_UNREACHABLE = 3;
const V6_TOO_BIG = 2;

/** Of the whole answer: RFC 1812 section 4.3.2.3, RFC 4443 section 2.4 (c). */
const V4_LONGEST = 576;
const V6_LONGEST = 1280;
export const LONGEST_UNREACHABLE = V6_LONGEST;
/** What every way has to carry: RFC 791 section 3.2 (of a host, reassembled), RFC 8200 section 5. */
const V4_LOWEST_MTU = 576;
const V6_LOWEST_MTU = 1280;

const HOP_LIMIT = 64;

/**
 * Writes "host unreachable" about the parsed packet to `at` and returns its length, or 0 when no error may be sent about it
 * (about errors, later fragments, and what is not from one host to one host: RFC 1122 section 3.2.2, RFC 4443 section 2.4 (e)).
 * `at` is even and has room for LONGEST_UNREACHABLE bytes.
 */
export const writeUnreachable = (memory: PacketMemory, ip: IpHeader, at: number): number => {
  if (!mayBeAnswered(memory, ip)) return 0;
  return ip.version === 4
    ? writeV4(memory, ip, at, V4_HOST_UNREACHABLE, 0)
    : writeV6(memory, ip, at, V6_UNREACHABLE, V6_ADDRESS_UNREACHABLE, 0);
};

/**
 * Likewise writes "packet too big" (v4: "fragmentation needed") with the MTU that would do, but never one below what every
 * way has to carry. Whether the packet may be cut is for `mayBeCut` to say.
 */
export const writeTooBig = (memory: PacketMemory, ip: IpHeader, mtu: number, at: number): number => {
  if (!mayBeAnswered(memory, ip)) return 0;
  return ip.version === 4
    ? writeV4(memory, ip, at, V4_FRAGMENTATION_NEEDED, Math.max(mtu, V4_LOWEST_MTU))
    : writeV6(memory, ip, at, V6_TOO_BIG, 0, Math.max(mtu, V6_LOWEST_MTU));
};

/** Whether what is too big has to be carried in pieces all the same: a packet, or segments of a super-packet, of `length`. */
export const mayBeCut = ({ view }: PacketMemory, ip: IpHeader, length: number): boolean =>
  ip.version === 4
    ? (view.getUint16(ip.offset + IPV4_FRAGMENT_OFFSET) & IPV4_DONT_FRAGMENT) === 0
    : length <= V6_LOWEST_MTU;

const mayBeAnswered = ({ view }: PacketMemory, ip: IpHeader): boolean => {
  const { offset, source, destination, transport, protocol } = ip;
  const first = view.getUint8(source);
  if (ip.version === 4) {
    const fragment = view.getUint16(offset + IPV4_FRAGMENT_OFFSET) & IPV4_FRAGMENT_MASK & 0x1fff;
    if (fragment !== 0 || first === 0 || first >= 224 || view.getUint8(destination) >= 224) return false;
    if (protocol !== PROTOCOL_ICMP) return true;
    return hasByte(ip, transport) && !isV4Error(view.getUint8(transport));
  }
  if (first === 0xff || view.getUint8(destination) === 0xff || isZero(view, source)) return false;
  // Behind odd extension headers there may be an error: then there is none about it.
  if (transport === 0) return false;
  return protocol !== PROTOCOL_ICMPV6 || (hasByte(ip, transport) && view.getUint8(transport) >= 128);
};

const hasByte = (ip: IpHeader, at: number): boolean => at !== 0 && at < ip.offset + ip.totalLength;
const isZero = (view: DataView, at: number): boolean =>
  view.getBigUint64(at) === 0n && view.getBigUint64(at + 8) === 0n;

/** All types but queries and replies (RFC 1122 section 3.2.2): echo, timestamp, information, address mask. */
const isV4Error = (type: number): boolean => !(type === 0 || type === 8 || (type >= 13 && type <= 18));

const writeV4 = (memory: PacketMemory, ip: IpHeader, at: number, code: number, mtu: number): number => {
  const { bytes, view } = memory;
  const quoted = Math.min(ip.totalLength, V4_LONGEST - IPV4_HEADER_LENGTH - ICMP_HEADER_LENGTH);
  const icmp = at + IPV4_HEADER_LENGTH;
  const icmpLength = ICMP_HEADER_LENGTH + quoted;
  bytes.fill(0, at, icmp + ICMP_HEADER_LENGTH);
  view.setUint16(at, 0x4500);
  view.setUint16(at + IPV4_TOTAL_LENGTH_OFFSET, IPV4_HEADER_LENGTH + icmpLength);
  view.setUint8(at + IPV4_TTL_OFFSET, HOP_LIMIT);
  view.setUint8(at + IPV4_PROTOCOL_OFFSET, PROTOCOL_ICMP);
  bytes.copyWithin(at + IPV4_SOURCE_OFFSET, ip.destination, ip.destination + 4);
  bytes.copyWithin(at + IPV4_DESTINATION_OFFSET, ip.source, ip.source + 4);
  view.setUint16(at + IPV4_CHECKSUM_OFFSET, checksum(memory, at, IPV4_HEADER_LENGTH));
  view.setUint8(icmp, V4_UNREACHABLE);
  view.setUint8(icmp + 1, code);
  view.setUint32(icmp + ICMP_MTU_OFFSET, Math.min(mtu, 0xffff));
  bytes.copyWithin(icmp + ICMP_HEADER_LENGTH, ip.offset, ip.offset + quoted);
  view.setUint16(icmp + ICMP_CHECKSUM_OFFSET, checksum(memory, icmp, icmpLength));
  return IPV4_HEADER_LENGTH + icmpLength;
};

const writeV6 = (
  memory: PacketMemory,
  ip: IpHeader,
  at: number,
  type: number,
  code: number,
  mtu: number,
): number => {
  const { bytes, view } = memory;
  const quoted = Math.min(ip.totalLength, V6_LONGEST - IPV6_HEADER_LENGTH - ICMP_HEADER_LENGTH);
  const icmp = at + IPV6_HEADER_LENGTH;
  const icmpLength = ICMP_HEADER_LENGTH + quoted;
  bytes.fill(0, at, icmp + ICMP_HEADER_LENGTH);
  view.setUint8(at, 0x60);
  view.setUint16(at + IPV6_PAYLOAD_LENGTH_OFFSET, icmpLength);
  view.setUint8(at + IPV6_NEXT_HEADER_OFFSET, PROTOCOL_ICMPV6);
  view.setUint8(at + IPV6_HOP_LIMIT_OFFSET, HOP_LIMIT);
  bytes.copyWithin(at + IPV6_SOURCE_OFFSET, ip.destination, ip.destination + 16);
  bytes.copyWithin(at + IPV6_DESTINATION_OFFSET, ip.source, ip.source + 16);
  view.setUint8(icmp, type);
  view.setUint8(icmp + 1, code);
  view.setUint32(icmp + ICMP_MTU_OFFSET, mtu);
  bytes.copyWithin(icmp + ICMP_HEADER_LENGTH, ip.offset, ip.offset + quoted);
  const pseudo = pseudoHeaderSum(memory, at + IPV6_SOURCE_OFFSET, 32, PROTOCOL_ICMPV6, icmpLength);
  view.setUint16(icmp + ICMP_CHECKSUM_OFFSET, ~fold(pseudo + sum(memory, icmp, icmpLength)) & 0xffff);
  return IPV6_HEADER_LENGTH + icmpLength;
};
