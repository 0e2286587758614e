// IPv4 (RFC 791), IPv6 (RFC 8200), TCP (RFC 9293) and UDP (RFC 768) headers in packet memory: named offsets, one
// length check (`IpHeader.parse`), then accessors that cannot fail. Not here: checksums, and anything about routes.
//
//   IPv4   0 version|IHL  1 DSCP|ECN  2 total length    4 identification  6 flags|fragment offset
//          8 TTL          9 protocol  10 checksum      12 source         16 destination   20 options
//   IPv6   0 version|traffic class|flow label           4 payload length  6 next header    7 hop limit
//          8 source                                    24 destination    40 extension headers
//   TCP    0 ports   4 sequence   8 acknowledgment  12 data offset  13 flags  14 window  16 checksum  18 urgent
//   UDP    0 ports   4 length     6 checksum

import { updateChecksum } from './checksum.ts';
import { ECN_MASK } from './ecn.ts';
import type { PacketMemory } from './packet-memory.ts';

export const IPV4_HEADER_LENGTH = 20;
export const IPV4_TOS_OFFSET = 1;
export const IPV4_TOTAL_LENGTH_OFFSET = 2;
export const IPV4_IDENTIFICATION_OFFSET = 4;
export const IPV4_FRAGMENT_OFFSET = 6;
export const IPV4_DONT_FRAGMENT = 0x4000;
/** More-fragments flag and fragment offset: not zero in a fragment. */
export const IPV4_FRAGMENT_MASK = 0x3fff;
export const IPV4_TTL_OFFSET = 8;
export const IPV4_PROTOCOL_OFFSET = 9;
export const IPV4_CHECKSUM_OFFSET = 10;
export const IPV4_SOURCE_OFFSET = 12;
export const IPV4_DESTINATION_OFFSET = 16;

export const IPV6_HEADER_LENGTH = 40;
export const IPV6_PAYLOAD_LENGTH_OFFSET = 4;
export const IPV6_NEXT_HEADER_OFFSET = 6;
export const IPV6_HOP_LIMIT_OFFSET = 7;
export const IPV6_SOURCE_OFFSET = 8;
export const IPV6_DESTINATION_OFFSET = 24;

export const PROTOCOL_HOP_BY_HOP = 0;
export const PROTOCOL_TCP = 6;
export const PROTOCOL_UDP = 17;
export const PROTOCOL_ROUTING = 43;
export const PROTOCOL_FRAGMENT = 44;
export const PROTOCOL_DESTINATION_OPTIONS = 60;

export const TCP_HEADER_LENGTH = 20;
export const TCP_SEQUENCE_OFFSET = 4;
export const TCP_ACKNOWLEDGMENT_OFFSET = 8;
export const TCP_DATA_OFFSET_OFFSET = 12;
export const TCP_FLAGS_OFFSET = 13;
export const TCP_WINDOW_OFFSET = 14;
export const TCP_CHECKSUM_OFFSET = 16;
export const TCP_URGENT_OFFSET = 18;
export const TCP_FIN = 0x01;
export const TCP_SYN = 0x02;
export const TCP_RST = 0x04;
export const TCP_PSH = 0x08;
export const TCP_ACK = 0x10;
export const TCP_URG = 0x20;
export const TCP_CWR = 0x80;

export const UDP_HEADER_LENGTH = 8;
export const UDP_LENGTH_OFFSET = 4;
export const UDP_CHECKSUM_OFFSET = 6;

/** Why a packet is not taken as IP. */
export type IpDefect = 'not-ip' | 'bad-header' | 'bad-length';

/** At most this many IPv6 extension headers are walked; past them the transport counts as unknown. */
const MAX_EXTENSION_HEADERS = 8;

/** The parsed shape of one packet. Made once and refilled for each packet, so that parsing allocates nothing. */
export class IpHeader {
  version: 4 | 6 = 4;
  /** Where in memory the packet starts. */
  offset = 0;
  /** The packet's own length, at most the length given: what lies after is padding. */
  totalLength = 0;
  /** Offsets in memory, too. */
  source = 0;
  destination = 0;
  /** 4 or 16. */
  addressLength: 4 | 16 = 4;
  /** The upper-layer protocol, behind all extension headers. */
  protocol = 0;
  /** Offset in memory of the upper-layer header; 0 when there is none to be seen (a later fragment, odd extensions). */
  transport = 0;
  isFragment = false;
  /** DSCP in the upper six bits, ECN in the lower two. */
  trafficClass = 0;

  /** Reads the packet at `offset` of which `length` bytes are there; undefined when it is sound. */
  parse(memory: PacketMemory, offset: number, length: number): IpDefect | undefined {
    if (length < IPV4_HEADER_LENGTH || offset < 0 || offset + length > memory.length) return 'bad-length';
    switch (memory.view.getUint8(offset) >>> 4) {
      case 4:
        return this.#parseV4(memory.view, offset, length);
      case 6:
        return this.#parseV6(memory.view, offset, length);
      default:
        return 'not-ip';
    }
  }

  #parseV4(view: DataView, offset: number, length: number): IpDefect | undefined {
    const headerLength = (view.getUint8(offset) & 0x0f) << 2;
    const totalLength = view.getUint16(offset + IPV4_TOTAL_LENGTH_OFFSET);
    if (headerLength < IPV4_HEADER_LENGTH) return 'bad-header';
    if (totalLength < headerLength || totalLength > length) return 'bad-length';
    const fragment = view.getUint16(offset + IPV4_FRAGMENT_OFFSET) & IPV4_FRAGMENT_MASK;
    this.version = 4;
    this.offset = offset;
    this.totalLength = totalLength;
    this.source = offset + IPV4_SOURCE_OFFSET;
    this.destination = offset + IPV4_DESTINATION_OFFSET;
    this.addressLength = 4;
    this.protocol = view.getUint8(offset + IPV4_PROTOCOL_OFFSET);
    this.isFragment = fragment !== 0;
    this.transport = (fragment & 0x1fff) === 0 ? offset + headerLength : 0;
    this.trafficClass = view.getUint8(offset + IPV4_TOS_OFFSET);
    return undefined;
  }

  #parseV6(view: DataView, offset: number, length: number): IpDefect | undefined {
    if (length < IPV6_HEADER_LENGTH) return 'bad-length';
    const totalLength = IPV6_HEADER_LENGTH + view.getUint16(offset + IPV6_PAYLOAD_LENGTH_OFFSET);
    if (totalLength > length) return 'bad-length';
    this.version = 6;
    this.offset = offset;
    this.totalLength = totalLength;
    this.source = offset + IPV6_SOURCE_OFFSET;
    this.destination = offset + IPV6_DESTINATION_OFFSET;
    this.addressLength = 16;
    this.protocol = view.getUint8(offset + IPV6_NEXT_HEADER_OFFSET);
    this.isFragment = false;
    this.transport = offset + IPV6_HEADER_LENGTH;
    this.trafficClass = (view.getUint16(offset) >>> 4) & 0xff;
    this.#skipExtensionHeaders(view, offset + totalLength);
    return undefined;
  }

  #skipExtensionHeaders(view: DataView, end: number): void {
    for (let i = 0; i < MAX_EXTENSION_HEADERS; i++) {
      const at = this.transport;
      switch (this.protocol) {
        case PROTOCOL_HOP_BY_HOP:
        case PROTOCOL_ROUTING:
        case PROTOCOL_DESTINATION_OPTIONS:
        case PROTOCOL_FRAGMENT:
          break;
        default:
          return;
      }
      if (at + 8 > end) break;
      const isFragmentHeader = this.protocol === PROTOCOL_FRAGMENT;
      this.protocol = view.getUint8(at);
      this.transport = at + 8 + (isFragmentHeader ? 0 : view.getUint8(at + 1) << 3);
      if (isFragmentHeader) {
        const fragment = view.getUint16(at + 2);
        if ((fragment & 0xfff9) !== 0) this.isFragment = true;
        if (fragment >>> 3 !== 0) break;
      }
      if (this.transport > end) break;
    }
    this.transport = 0;
  }
}

/**
 * Sets the ECN bits of a parsed packet and keeps its IPv4 checksum right; used when a tunnel is left (ecn.ts).
 */
export const setEcn = (memory: PacketMemory, ip: IpHeader, value: number): void => {
  const { view } = memory;
  const { offset } = ip;
  ip.trafficClass = (ip.trafficClass & ~ECN_MASK) | value;
  const old = view.getUint16(offset);
  if (old >>> 12 === 6) {
    view.setUint16(offset, (old & 0xffcf) | (value << 4));
    return;
  }
  const changed = (old & 0xfffc) | value;
  view.setUint16(offset, changed);
  const checksumAt = offset + IPV4_CHECKSUM_OFFSET;
  view.setUint16(checksumAt, updateChecksum(view.getUint16(checksumAt), old, changed));
};
