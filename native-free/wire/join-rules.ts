// When two packets may become one super-packet, as comparisons of bytes in packet memory (Linux: inet_gro_receive,
// ipv6_gro_receive, tcp_gro_receive, udp_gro_receive). Stricter than Linux in one thing: every TCP header field but
// sequence, PSH and checksum must be equal, the window too, so that cutting a super-packet gives back what went in.
// `head` is the offset of the first packet of a super-packet in the making; its shape has been checked already.

import { fold, pseudoHeaderSum, sum } from './checksum.ts';
import {
  IPV4_DONT_FRAGMENT,
  IPV4_FRAGMENT_OFFSET,
  IPV4_HEADER_LENGTH,
  IPV4_IDENTIFICATION_OFFSET,
  IPV4_PROTOCOL_OFFSET,
  IPV4_SOURCE_OFFSET,
  IPV4_TTL_OFFSET,
  IPV6_HEADER_LENGTH,
  IPV6_HOP_LIMIT_OFFSET,
  IPV6_NEXT_HEADER_OFFSET,
  IPV6_SOURCE_OFFSET,
  type IpHeader,
  PROTOCOL_TCP,
  PROTOCOL_UDP,
  TCP_ACK,
  TCP_ACKNOWLEDGMENT_OFFSET,
  TCP_CWR,
  TCP_DATA_OFFSET_OFFSET,
  TCP_FIN,
  TCP_FLAGS_OFFSET,
  TCP_HEADER_LENGTH,
  TCP_PSH,
  TCP_RST,
  TCP_SEQUENCE_OFFSET,
  TCP_SYN,
  TCP_URG,
  TCP_URGENT_OFFSET,
  TCP_WINDOW_OFFSET,
  UDP_CHECKSUM_OFFSET,
  UDP_HEADER_LENGTH,
  UDP_LENGTH_OFFSET,
} from './ip.ts';
import type { PacketMemory } from './packet-memory.ts';

const FLAGS_THAT_STAND_ALONE = TCP_FIN | TCP_SYN | TCP_RST | TCP_URG | TCP_CWR;

/** Whether source and destination port can be read. */
export const hasPorts = (ip: IpHeader): boolean =>
  (ip.protocol === PROTOCOL_TCP || ip.protocol === PROTOCOL_UDP) &&
  ip.transport !== 0 &&
  ip.transport + 4 <= ip.offset + ip.totalLength;

/** TCP with PSH. The packet must be joinable. */
export const isPushed = (memory: PacketMemory, ip: IpHeader): boolean =>
  ip.protocol === PROTOCOL_TCP && (memory.view.getUint8(ip.transport + TCP_FLAGS_OFFSET) & TCP_PSH) !== 0;

/** Length of the IP and transport headers of a packet that can join or be joined; 0 when it must stand alone. */
export const joinableHeaderLength = (memory: PacketMemory, ip: IpHeader): number => {
  const ipLength = ip.version === 4 ? IPV4_HEADER_LENGTH : IPV6_HEADER_LENGTH;
  // Neither fragments, nor IPv4 options, nor IPv6 extension headers.
  if (ip.isFragment || ip.transport !== ip.offset + ipLength) return 0;
  if (ip.protocol === PROTOCOL_TCP) return tcpHeaderLength(memory, ip, ipLength);
  if (ip.protocol === PROTOCOL_UDP) return udpHeaderLength(memory, ip, ipLength);
  return 0;
};

const tcpHeaderLength = ({ view }: PacketMemory, ip: IpHeader, ipLength: number): number => {
  if (ipLength + TCP_HEADER_LENGTH >= ip.totalLength) return 0;
  const headerLength = ipLength + ((view.getUint8(ip.transport + TCP_DATA_OFFSET_OFFSET) >>> 4) << 2);
  if (headerLength < ipLength + TCP_HEADER_LENGTH || headerLength >= ip.totalLength) return 0;
  const flags = view.getUint8(ip.transport + TCP_FLAGS_OFFSET);
  return (flags & TCP_ACK) === 0 || (flags & FLAGS_THAT_STAND_ALONE) !== 0 ? 0 : headerLength;
};

const udpHeaderLength = ({ view }: PacketMemory, ip: IpHeader, ipLength: number): number => {
  const headerLength = ipLength + UDP_HEADER_LENGTH;
  if (headerLength >= ip.totalLength) return 0;
  if (view.getUint16(ip.transport + UDP_LENGTH_OFFSET) !== ip.totalLength - ipLength) return 0;
  // A checksum of zero means that there is none to verify.
  return view.getUint16(ip.transport + UDP_CHECKSUM_OFFSET) === 0 ? 0 : headerLength;
};

/** Same protocol, addresses and ports. The packet must have ports. */
export const isSameFlow = ({ view }: PacketMemory, head: number, ip: IpHeader): boolean => {
  const { source, transport, protocol } = ip;
  if (view.getUint8(head) >>> 4 !== ip.version) return false;
  if (ip.version === 4) {
    return (
      view.getInt32(head + IPV4_HEADER_LENGTH) === view.getInt32(transport) &&
      view.getInt32(head + IPV4_SOURCE_OFFSET) === view.getInt32(source) &&
      view.getInt32(head + IPV4_SOURCE_OFFSET + 4) === view.getInt32(source + 4) &&
      view.getUint8(head + IPV4_PROTOCOL_OFFSET) === protocol
    );
  }
  return (
    view.getInt32(head + IPV6_HEADER_LENGTH) === view.getInt32(transport) &&
    view.getUint8(head + IPV6_NEXT_HEADER_OFFSET) === protocol &&
    areEqual(view, head + IPV6_SOURCE_OFFSET, source, 32)
  );
};

/** Whether the IP header fits one `index` places after the head. Same flow. */
export const continuesIp = ({ view }: PacketMemory, head: number, ip: IpHeader, index: number): boolean => {
  const at = ip.offset;
  if (ip.version === 6) {
    return (
      view.getInt32(head) === view.getInt32(at) &&
      view.getUint8(head + IPV6_HOP_LIMIT_OFFSET) === view.getUint8(at + IPV6_HOP_LIMIT_OFFSET)
    );
  }
  const fragment = view.getUint16(at + IPV4_FRAGMENT_OFFSET);
  if (
    view.getUint16(head) !== view.getUint16(at) ||
    view.getUint16(head + IPV4_FRAGMENT_OFFSET) !== fragment ||
    view.getUint8(head + IPV4_TTL_OFFSET) !== view.getUint8(at + IPV4_TTL_OFFSET)
  )
    return false;
  // The identification of a packet that must not be fragmented means nothing (RFC 6864).
  if ((fragment & IPV4_DONT_FRAGMENT) !== 0) return true;
  const identification = view.getUint16(head + IPV4_IDENTIFICATION_OFFSET) + index;
  return view.getUint16(at + IPV4_IDENTIFICATION_OFFSET) === (identification & 0xffff);
};

/** Whether the TCP header at `tcp` continues the one at `head` after `payloadLength` bytes. Same header length. */
export const continuesTcp = (
  { view }: PacketMemory,
  head: number,
  tcp: number,
  tcpLength: number,
  payloadLength: number,
): boolean => {
  const offsetAndFlags =
    view.getUint16(head + TCP_DATA_OFFSET_OFFSET) ^ view.getUint16(tcp + TCP_DATA_OFFSET_OFFSET);
  return (
    view.getInt32(tcp + TCP_SEQUENCE_OFFSET) ===
      ((view.getInt32(head + TCP_SEQUENCE_OFFSET) + payloadLength) | 0) &&
    view.getInt32(tcp + TCP_ACKNOWLEDGMENT_OFFSET) === view.getInt32(head + TCP_ACKNOWLEDGMENT_OFFSET) &&
    (offsetAndFlags & ~TCP_PSH) === 0 &&
    view.getUint16(tcp + TCP_WINDOW_OFFSET) === view.getUint16(head + TCP_WINDOW_OFFSET) &&
    view.getUint16(tcp + TCP_URGENT_OFFSET) === view.getUint16(head + TCP_URGENT_OFFSET) &&
    areEqual(view, head + TCP_HEADER_LENGTH, tcp + TCP_HEADER_LENGTH, tcpLength - TCP_HEADER_LENGTH)
  );
};

const areEqual = (view: DataView, a: number, b: number, length: number): boolean => {
  for (let i = 0; i < length; i += 4) if (view.getInt32(a + i) !== view.getInt32(b + i)) return false;
  return true;
};

/**
 * Whether the checksums of the packet at `offset` are right. Of `shape` only what is alike in all packets of a
 * super-packet is used, so that it can stand for the head.
 */
export const isSound = (
  memory: PacketMemory,
  shape: IpHeader,
  offset: number,
  totalLength: number,
): boolean => {
  if (shape.version === 4 && sum(memory, offset, IPV4_HEADER_LENGTH) !== 0xffff) return false;
  const transport = offset + shape.transport - shape.offset;
  const length = offset + totalLength - transport;
  const addresses = offset + shape.source - shape.offset;
  const pseudo = pseudoHeaderSum(memory, addresses, shape.addressLength << 1, shape.protocol, length);
  return fold(pseudo + sum(memory, transport, length)) === 0xffff;
};
