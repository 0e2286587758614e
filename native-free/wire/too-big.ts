// "Packet too big" (RFC 4443 section 3.2) and "fragmentation needed" (RFC 1191) as they come from routers of the underlay
// about a WireGuard message of ours. Anyone can forge them; what is quoted has to be a transport message, whose receiver
// index nobody off the way can know (RFC 8899 section 4.6). Not here: whose index it is, and how far to believe the MTU.
//
//   ICMP     0 type   1 code   4 MTU   8 the packet: IPv4 (20 B and more) or IPv6 (40 B), UDP (8 B), message

import {
  IPV4_DESTINATION_OFFSET,
  IPV4_FRAGMENT_OFFSET,
  IPV4_HEADER_LENGTH,
  IPV4_PROTOCOL_OFFSET,
  IPV6_HEADER_LENGTH,
  IPV6_NEXT_HEADER_OFFSET,
  PROTOCOL_UDP,
  UDP_HEADER_LENGTH,
} from './ip.ts';
import { TRANSPORT_RECEIVER_OFFSET, TRANSPORT_TYPE } from './message.ts';

const ICMP_HEADER_LENGTH = 8;
const MTU_OFFSET = 4;
const V4_UNREACHABLE = 3;
const V4_FRAGMENTATION_NEEDED = 4;
const V6_TOO_BIG = 2;
/** Of a message, what must be quoted: type and receiver index. */
const MESSAGE_START = 8;

export interface TooBig {
  /** As the router says: not to be trusted. 0: it does not say (RFC 1191 section 3). */
  readonly mtu: number;
  /** Of the UDP datagram that is quoted. */
  readonly sourcePort: number;
  readonly destinationPort: number;
  /** The receiver index that it was sent to. */
  readonly receiver: number;
}

/** An IPv4 packet, as a raw ICMP socket gives it; undefined: it says nothing about a message of ours. */
export const parseTooBigV4 = (bytes: Uint8Array): TooBig | undefined => {
  const view = viewOf(bytes);
  const outer = v4HeaderLength(view, 0);
  if (outer === 0 || bytes.length < outer + ICMP_HEADER_LENGTH) return undefined;
  if (view.getUint8(outer) !== V4_UNREACHABLE || view.getUint8(outer + 1) !== V4_FRAGMENTATION_NEEDED)
    return undefined;
  const quoted = outer + ICMP_HEADER_LENGTH;
  const inner = v4HeaderLength(view, quoted);
  if (inner === 0 || view.getUint8(quoted + IPV4_PROTOCOL_OFFSET) !== PROTOCOL_UDP) return undefined;
  if ((view.getUint16(quoted + IPV4_FRAGMENT_OFFSET) & 0x1fff) !== 0) return undefined;
  return parseDatagram(view, quoted + inner, view.getUint16(outer + MTU_OFFSET + 2));
};

/** An ICMPv6 message, as a raw ICMPv6 socket gives it. */
export const parseTooBigV6 = (bytes: Uint8Array): TooBig | undefined => {
  const view = viewOf(bytes);
  if (bytes.length < ICMP_HEADER_LENGTH + IPV6_HEADER_LENGTH) return undefined;
  if (view.getUint8(0) !== V6_TOO_BIG || view.getUint8(1) !== 0) return undefined;
  const quoted = ICMP_HEADER_LENGTH;
  if (view.getUint8(quoted) >>> 4 !== 6) return undefined;
  // Our messages have no extension headers; a fragment of one is not about the way.
  if (view.getUint8(quoted + IPV6_NEXT_HEADER_OFFSET) !== PROTOCOL_UDP) return undefined;
  return parseDatagram(view, quoted + IPV6_HEADER_LENGTH, view.getUint32(MTU_OFFSET));
};

const viewOf = (bytes: Uint8Array): DataView =>
  new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

/** 0: there is no IPv4 header. Its addresses are there when there is. */
const v4HeaderLength = (view: DataView, at: number): number => {
  if (view.byteLength < at + IPV4_DESTINATION_OFFSET + 4) return 0;
  const first = view.getUint8(at);
  const length = (first & 0x0f) << 2;
  return first >>> 4 === 4 && length >= IPV4_HEADER_LENGTH ? length : 0;
};

const parseDatagram = (view: DataView, udp: number, mtu: number): TooBig | undefined => {
  const message = udp + UDP_HEADER_LENGTH;
  if (view.byteLength < message + MESSAGE_START) return undefined;
  if (view.getUint32(message, true) !== TRANSPORT_TYPE) return undefined;
  return {
    mtu,
    sourcePort: view.getUint16(udp),
    destinationPort: view.getUint16(udp + 2),
    receiver: view.getUint32(message + TRANSPORT_RECEIVER_OFFSET, true),
  };
};
