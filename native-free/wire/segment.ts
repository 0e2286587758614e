// Cuts what a TUN hands over (virtio_net_hdr, then one IP packet or TCP/UDP super-packet) into the packets that go
// on the wire, checksums completed, each padded with zeros to 16 (WireGuard whitepaper, section 5.4.6).
//
// Segments are made one at a time and in place, without copying payload: the headers of segment i are written right
// before its payload, over the tail of segment i-1, which by then has been sealed to somewhere else. So the loop is
//
//   const refusal = segmenter.begin(offset, length, mtu);       // offset of the virtio_net_hdr
//   if (refusal !== undefined) count it; else
//   for (let i = 0; segmenter.next(); i++)
//     seal(from segmenter.offset, segmenter.paddedLength bytes, to out + i * stride + 16)
//
// where stride = 16 (message header) + segmenter.stridePlaintext + 16 (tag): all messages of a run are of one size but
// the last, as one UDP GSO send wants them. `seal` must not write where the super-packet is, and the memory must hold
// 15 more bytes after the packet for its padding.
//
// Per segment: IPv4 identification counts up; the TCP sequence advances; FIN and PSH stay on the last only, CWR on
// the first only; lengths and checksums are its own (Linux: tcp_gso_segment, __udp_gso_segment).

import { fold, sum } from './checksum.ts';
import {
  IPV4_CHECKSUM_OFFSET,
  IPV4_IDENTIFICATION_OFFSET,
  IPV4_TOTAL_LENGTH_OFFSET,
  IPV6_HEADER_LENGTH,
  IPV6_PAYLOAD_LENGTH_OFFSET,
  type IpDefect,
  IpHeader,
  PROTOCOL_TCP,
  PROTOCOL_UDP,
  TCP_CHECKSUM_OFFSET,
  TCP_CWR,
  TCP_DATA_OFFSET_OFFSET,
  TCP_FIN,
  TCP_FLAGS_OFFSET,
  TCP_HEADER_LENGTH,
  TCP_PSH,
  TCP_SEQUENCE_OFFSET,
  UDP_CHECKSUM_OFFSET,
  UDP_HEADER_LENGTH,
  UDP_LENGTH_OFFSET,
} from './ip.ts';
import type { PacketMemory } from './packet-memory.ts';
import {
  VNET_GSO_ECN,
  VNET_GSO_NONE,
  VNET_GSO_TCP_V4,
  VNET_GSO_TCP_V6,
  VNET_GSO_UDP,
  VNET_HEADER_LENGTH,
  VNET_NEEDS_CHECKSUM,
  vnetChecksumOffset,
  vnetChecksumStart,
  vnetFlags,
  vnetGsoSize,
  vnetGsoType,
} from './virtio.ts';

/** Why a packet from the TUN is not sent. */
export type SegmentRefusal =
  | IpDefect
  /** The padding would not fit into the memory. */
  | 'no-room'
  /** csum_start or csum_offset points outside the packet, or not at the transport header. */
  | 'bad-checksum-offsets'
  /** A kind of super-packet that was not asked for, or one that contradicts the IP header. */
  | 'bad-gso-type'
  | 'bad-gso-size'
  /** A super-packet with a truncated or impossible transport header, or one that is a fragment. */
  | 'bad-transport';

const PADDING = 16;
const PADDING_MASK = PADDING - 1;
const MANGLED_ZERO = 0xffff;
/**
 * 64 KB in segments of 64 B. Whoever may open a packet socket in a pod can have the kernel hand over a super-packet of
 * 60000 one-byte segments, which would cost as much as 60000 packets.
 */
const MAX_SEGMENTS = 1024;

export class Segmenter {
  /** The IP header of the packet begun last: addresses for the lookup, traffic class for ECN. */
  readonly ip = new IpHeader();
  /** How many segments the packet makes. */
  count = 0;
  /** Padded length of every segment but the last, which may be shorter. */
  stridePlaintext = 0;
  /** The segment made last: offset in memory, length of the IP packet, length with its padding. */
  offset = 0;
  length = 0;
  paddedLength = 0;

  readonly #memory: PacketMemory;
  readonly #covered = new Uint8Array(PADDING);
  #coveredAt = 0;
  #coveredLength = 0;

  #index = 0;
  #mtu = 0;
  #start = 0;
  #end = 0;
  #gsoSize = 0;
  /** Length of IP and transport headers. */
  #headerLength = 0;
  #transportOffset = 0;
  #isTcp = false;
  #identification = 0;
  #sequence = 0;
  #flags = 0;
  #addressesAndProtocol = 0;

  /** Keeps `memory`, in which all packets given to `begin` lie. */
  constructor(memory: PacketMemory) {
    this.#memory = memory;
  }

  /**
   * Takes up the `length` bytes at `offset`: a virtio_net_hdr and a packet. Undefined when it is sound; then `ip`,
   * `count` and `stridePlaintext` hold and `next` makes the segments. `mtu` is the inside MTU, which padding
   * never exceeds.
   */
  begin(offset: number, length: number, mtu: number): SegmentRefusal | undefined {
    const { view } = this.#memory;
    this.count = 0;
    this.#index = 0;
    this.#coveredLength = 0;
    if (length < VNET_HEADER_LENGTH) return 'bad-length';
    const start = offset + VNET_HEADER_LENGTH;
    const defect = this.ip.parse(this.#memory, start, length - VNET_HEADER_LENGTH);
    if (defect !== undefined) return defect;
    this.#start = start;
    this.#end = start + this.ip.totalLength;
    this.#mtu = mtu;
    if (this.#end + PADDING_MASK > this.#memory.length) return 'no-room';

    const gsoType = vnetGsoType(view, offset);
    const needsChecksum = (vnetFlags(view, offset) & VNET_NEEDS_CHECKSUM) !== 0;
    if (gsoType === VNET_GSO_NONE) {
      if (needsChecksum) {
        const refusal = this.#completeChecksum(
          vnetChecksumStart(view, offset),
          vnetChecksumOffset(view, offset),
        );
        if (refusal !== undefined) return refusal;
      }
      this.count = 1;
      this.#gsoSize = 0;
      this.stridePlaintext = this.#padded(this.ip.totalLength);
      return undefined;
    }
    const refusal = this.#beginSuperPacket(gsoType, vnetGsoSize(view, offset));
    if (refusal !== undefined) return refusal;
    if (needsChecksum && vnetChecksumStart(view, offset) !== this.#transportOffset)
      return 'bad-checksum-offsets';
    const payloadLength = this.#end - this.#start - this.#headerLength;
    const count = Math.max(1, Math.ceil(payloadLength / this.#gsoSize));
    if (count > MAX_SEGMENTS) return 'bad-gso-size';
    this.count = count;
    this.stridePlaintext = this.#padded(this.#headerLength + Math.min(payloadLength, this.#gsoSize));
    return undefined;
  }

  /** Makes the next segment; false when there is none left. The one before must have been sealed. */
  next(): boolean {
    this.#uncover();
    const index = this.#index;
    if (index >= this.count) return false;
    this.#index = index + 1;
    if (this.#gsoSize === 0) {
      this.offset = this.#start;
      this.length = this.#end - this.#start;
    } else {
      this.#writeSegment(index);
    }
    this.paddedLength = this.#padded(this.length);
    this.#pad();
    return true;
  }

  #padded(length: number): number {
    return Math.max(length, Math.min((length + PADDING_MASK) & ~PADDING_MASK, this.#mtu));
  }

  /** A plain packet with NEEDS_CSUM: the field holds the sum of the pseudo-header; whatever the protocol. */
  #completeChecksum(checksumStart: number, checksumOffset: number): SegmentRefusal | undefined {
    const from = this.#start + checksumStart;
    const at = from + checksumOffset;
    if (from < this.ip.destination + this.ip.addressLength || at + 2 > this.#end)
      return 'bad-checksum-offsets';
    const value = ~sum(this.#memory, from, this.#end - from) & 0xffff;
    this.#memory.view.setUint16(at, value === 0 ? MANGLED_ZERO : value);
    return undefined;
  }

  #beginSuperPacket(gsoType: number, gsoSize: number): SegmentRefusal | undefined {
    const { view } = this.#memory;
    const { ip } = this;
    const isTcp = ip.protocol === PROTOCOL_TCP;
    const tcpType = ip.version === 4 ? VNET_GSO_TCP_V4 : VNET_GSO_TCP_V6;
    if (
      isTcp ? (gsoType & ~VNET_GSO_ECN) !== tcpType : gsoType !== VNET_GSO_UDP || ip.protocol !== PROTOCOL_UDP
    )
      return 'bad-gso-type';
    if (gsoSize === 0) return 'bad-gso-size';
    const transport = ip.transport;
    const fixedLength = isTcp ? TCP_HEADER_LENGTH : UDP_HEADER_LENGTH;
    if (transport === 0 || ip.isFragment || transport + fixedLength > this.#end) return 'bad-transport';
    let transportLength = fixedLength;
    if (isTcp) {
      transportLength = (view.getUint8(transport + TCP_DATA_OFFSET_OFFSET) >>> 4) << 2;
      if (transportLength < TCP_HEADER_LENGTH || transport + transportLength > this.#end)
        return 'bad-transport';
      // Signed, for then it is a small integer to V8, whatever it is: else all code for this class goes when the first large one comes.
      this.#sequence = view.getInt32(transport + TCP_SEQUENCE_OFFSET);
      this.#flags = view.getUint8(transport + TCP_FLAGS_OFFSET);
    }
    this.#isTcp = isTcp;
    this.#gsoSize = gsoSize;
    this.#transportOffset = transport - this.#start;
    this.#headerLength = this.#transportOffset + transportLength;
    if (this.#headerLength + gsoSize > 0xffff) return 'bad-gso-size';
    if (ip.version === 4) this.#identification = view.getUint16(this.#start + IPV4_IDENTIFICATION_OFFSET);
    this.#addressesAndProtocol = fold(
      sum(this.#memory, ip.source, ip.addressLength << 1) + (isTcp ? PROTOCOL_TCP : PROTOCOL_UDP),
    );
    return undefined;
  }

  #writeSegment(index: number): void {
    const headerLength = this.#headerLength;
    const at = this.#start + index * this.#gsoSize;
    const length = headerLength + Math.min(this.#gsoSize, this.#end - at - headerLength);
    if (index > 0) this.#memory.copy(this.offset, at, headerLength);
    this.offset = at;
    this.length = length;
    this.#writeIpHeader(at, length, index);
    if (this.#isTcp) this.#writeTcpHeader(at, length, index);
    else this.#writeUdpHeader(at, length);
  }

  #writeIpHeader(at: number, length: number, index: number): void {
    const { view } = this.#memory;
    if (this.ip.version === 6) {
      view.setUint16(at + IPV6_PAYLOAD_LENGTH_OFFSET, length - IPV6_HEADER_LENGTH);
      return;
    }
    view.setUint16(at + IPV4_TOTAL_LENGTH_OFFSET, length);
    view.setUint16(at + IPV4_IDENTIFICATION_OFFSET, (this.#identification + index) & 0xffff);
    view.setUint16(at + IPV4_CHECKSUM_OFFSET, 0);
    view.setUint16(at + IPV4_CHECKSUM_OFFSET, ~sum(this.#memory, at, this.#transportOffset) & 0xffff);
  }

  #writeTcpHeader(at: number, length: number, index: number): void {
    const { view } = this.#memory;
    const tcp = at + this.#transportOffset;
    let flags = this.#flags;
    if (index > 0) flags &= ~TCP_CWR;
    if (index < this.count - 1) flags &= ~(TCP_FIN | TCP_PSH);
    view.setUint32(tcp + TCP_SEQUENCE_OFFSET, (this.#sequence + index * this.#gsoSize) >>> 0);
    view.setUint8(tcp + TCP_FLAGS_OFFSET, flags);
    view.setUint16(tcp + TCP_CHECKSUM_OFFSET, 0);
    view.setUint16(tcp + TCP_CHECKSUM_OFFSET, this.#transportChecksum(tcp, at + length - tcp));
  }

  #writeUdpHeader(at: number, length: number): void {
    const { view } = this.#memory;
    const udp = at + this.#transportOffset;
    const udpLength = at + length - udp;
    view.setUint16(udp + UDP_LENGTH_OFFSET, udpLength);
    view.setUint16(udp + UDP_CHECKSUM_OFFSET, 0);
    const value = this.#transportChecksum(udp, udpLength);
    view.setUint16(udp + UDP_CHECKSUM_OFFSET, value === 0 ? MANGLED_ZERO : value);
  }

  #transportChecksum(at: number, length: number): number {
    return ~fold(this.#addressesAndProtocol + length + sum(this.#memory, at, length)) & 0xffff;
  }

  /** Zeros the padding; what it covers of the next payload is kept and put back by the next call of `next`. */
  #pad(): void {
    const { bytes } = this.#memory;
    const from = this.offset + this.length;
    const length = this.paddedLength - this.length;
    for (let i = 0; i < length; i++) {
      this.#covered[i] = bytes[from + i] ?? 0;
      bytes[from + i] = 0;
    }
    this.#coveredAt = from;
    this.#coveredLength = length;
  }

  #uncover(): void {
    const { bytes } = this.#memory;
    for (let i = 0; i < this.#coveredLength; i++) bytes[this.#coveredAt + i] = this.#covered[i] ?? 0;
    this.#coveredLength = 0;
  }
}
