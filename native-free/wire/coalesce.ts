// Joins packets of one flow that arrived together into super-packets, so that one write to the TUN carries up to
// 64 KB (what Linux calls GRO). Copies no payload: a super-packet is a list of slices for one writev.
//
//   coalescer.reset();
//   for (each opened packet) if (ip.parse(...) === undefined) coalescer.push(ip);
//   for (let i = 0, n = coalescer.finish(); i < n; i++)
//     writev(slices firstSlice[i] .. firstSlice[i + 1] - 1 of sliceOffset and sliceLength)
//
// The first slice of each is virtio_net_hdr, headers and first payload in one piece: the virtio_net_hdr is written into
// the ten bytes before the packet, which must be free (the WireGuard header lay there). Each packet is one slice.
//
// Packets join by the rules of join-rules.ts, all payloads but the last being of one size; PSH or a short payload ends
// a super-packet. What cannot join is written by itself, unchanged, and nothing is joined past it: packets of a flow
// keep their order. Checksums are verified before joining, since a kernel handed a super-packet trusts them.

import { pseudoHeaderSum, sum } from './checksum.ts';
import {
  IPV4_CHECKSUM_OFFSET,
  IPV4_HEADER_LENGTH,
  IPV4_PROTOCOL_OFFSET,
  IPV4_TOTAL_LENGTH_OFFSET,
  IPV6_HEADER_LENGTH,
  IPV6_NEXT_HEADER_OFFSET,
  IPV6_PAYLOAD_LENGTH_OFFSET,
  type IpHeader,
  PROTOCOL_TCP,
  PROTOCOL_UDP,
  TCP_CHECKSUM_OFFSET,
  TCP_FLAGS_OFFSET,
  TCP_PSH,
  UDP_CHECKSUM_OFFSET,
  UDP_LENGTH_OFFSET,
} from './ip.ts';
import {
  continuesIp,
  continuesTcp,
  hasPorts,
  isPushed,
  isSameFlow,
  isSound,
  joinableHeaderLength,
} from './join-rules.ts';
import type { PacketMemory } from './packet-memory.ts';
import {
  VNET_GSO_TCP_V4,
  VNET_GSO_TCP_V6,
  VNET_GSO_UDP,
  VNET_HEADER_LENGTH,
  writePlainVnetHeader,
  writeVnetHeader,
} from './virtio.ts';

/** No super-packet has more packets, so no writev more slices. */
export const MAX_SLICES = 64;
const MAX_TOTAL_LENGTH = 0xffff;
/** A flow is looked for in so many slots and, if they all hold others, is not coalesced: crafted flows cost no more. */
const MAX_PROBES = 8;
const NONE = -1;

export interface CoalescerOptions {
  readonly tcp: boolean;
  /** UDP super-packets need a kernel whose TUN takes USO (Linux 6.2). */
  readonly udp: boolean;
}

export class Coalescer {
  /** Valid after `finish`: write i has the slices firstSlice[i] up to but without firstSlice[i + 1]. */
  readonly firstSlice: Int32Array;
  readonly sliceOffset: Int32Array;
  readonly sliceLength: Int32Array;

  readonly #memory: PacketMemory;
  readonly #capacity: number;
  readonly #options: CoalescerOptions;

  // The payload of each packet (nothing, if it stands alone), and the packet joined after it.
  #packets = 0;
  readonly #payloadOffset: Int32Array;
  readonly #payloadLength: Int32Array;
  readonly #nextPacket: Int32Array;

  // Groups: a head and the packets joined to it, in the order of their heads.
  #groups = 0;
  readonly #head: Int32Array;
  readonly #headPacket: Int32Array;
  readonly #lastPacket: Int32Array;
  readonly #headerLength: Int32Array;
  readonly #totalLength: Int32Array;
  readonly #joined: Int32Array;
  readonly #isOpen: Uint8Array;
  readonly #isVerified: Uint8Array;

  // Flow -> its newest group: open addressing, emptied by counting the generation up.
  readonly #slotMask: number;
  readonly #slotGeneration: Int32Array;
  readonly #slotGroup: Int32Array;
  #generation = 1;
  /** Where the flow looked for last is or belongs; NONE when there is no place for it. */
  #slot = NONE;

  /** Keeps `memory`, in which all packets lie. `capacity` is how many packets a batch can hold, at most 65536. */
  constructor(memory: PacketMemory, capacity: number, options: CoalescerOptions) {
    this.#memory = memory;
    this.#capacity = capacity;
    this.#options = options;
    this.firstSlice = new Int32Array(capacity + 1);
    this.sliceOffset = new Int32Array(capacity);
    this.sliceLength = new Int32Array(capacity);
    this.#payloadOffset = new Int32Array(capacity);
    this.#payloadLength = new Int32Array(capacity);
    this.#nextPacket = new Int32Array(capacity);
    this.#head = new Int32Array(capacity);
    this.#headPacket = new Int32Array(capacity);
    this.#lastPacket = new Int32Array(capacity);
    this.#headerLength = new Int32Array(capacity);
    this.#totalLength = new Int32Array(capacity);
    this.#joined = new Int32Array(capacity);
    this.#isOpen = new Uint8Array(capacity);
    this.#isVerified = new Uint8Array(capacity);
    const slots = 1 << (32 - Math.clz32(capacity * 2));
    this.#slotMask = slots - 1;
    this.#slotGeneration = new Int32Array(slots);
    this.#slotGroup = new Int32Array(slots);
  }

  /** Starts a batch. */
  reset(): void {
    this.#packets = 0;
    this.#groups = 0;
    this.#generation = (this.#generation + 1) | 0;
  }

  /** Takes a parsed packet; borrows `ip`. False when the batch is full: finish it first. */
  push(ip: IpHeader): boolean {
    if (this.#packets >= this.#capacity || ip.offset < VNET_HEADER_LENGTH) return false;
    const memory = this.#memory;
    const group = hasPorts(ip) ? this.#find(ip) : NONE;
    const headerLength = this.#isWanted(ip) ? joinableHeaderLength(memory, ip) : 0;
    if (headerLength === 0) {
      this.#close(group);
      this.#begin(ip, ip.totalLength, false);
      return true;
    }
    if (group !== NONE && this.#isOpen[group] === 1 && this.#continues(group, ip, headerLength)) {
      if (this.#isHeadSound(group, ip)) {
        if (isSound(memory, ip, ip.offset, ip.totalLength)) {
          this.#join(group, ip, headerLength);
        } else {
          this.#close(group);
          this.#begin(ip, headerLength, false);
        }
        return true;
      }
    }
    const slot = this.#slot;
    if (slot !== NONE) {
      this.#slotGeneration[slot] = this.#generation;
      this.#slotGroup[slot] = this.#groups;
    }
    this.#begin(ip, headerLength, slot !== NONE && !isPushed(memory, ip));
    return true;
  }

  /** Ends the batch: writes the headers, fills the slices and returns how many writes there are. */
  finish(): number {
    const { view } = this.#memory;
    let slice = 0;
    for (let group = 0; group < this.#groups; group++) {
      const head = this.#head[group] ?? 0;
      const joined = this.#joined[group] ?? 0;
      let packet = this.#headPacket[group] ?? 0;
      if (joined === 1) writePlainVnetHeader(view, head - VNET_HEADER_LENGTH);
      else this.#writeHeaders(group, head);
      this.firstSlice[group] = slice;
      this.sliceOffset[slice] = head - VNET_HEADER_LENGTH;
      this.sliceLength[slice] =
        VNET_HEADER_LENGTH + (this.#headerLength[group] ?? 0) + (this.#payloadLength[packet] ?? 0);
      slice++;
      for (let i = 1; i < joined; i++, slice++) {
        packet = this.#nextPacket[packet] ?? 0;
        this.sliceOffset[slice] = this.#payloadOffset[packet] ?? 0;
        this.sliceLength[slice] = this.#payloadLength[packet] ?? 0;
      }
    }
    this.firstSlice[this.#groups] = slice;
    return this.#groups;
  }

  #isWanted(ip: IpHeader): boolean {
    return ip.protocol === PROTOCOL_UDP ? this.#options.udp : this.#options.tcp;
  }

  /** The newest group of the packet's flow or NONE; sets `#slot`. */
  #find(ip: IpHeader): number {
    const { view } = this.#memory;
    const hash =
      view.getInt32(ip.transport) ^
      view.getInt32(ip.source + ip.addressLength - 4) ^
      (view.getInt32(ip.destination + ip.addressLength - 4) << 1);
    let slot = (Math.imul(hash, 0x9e3779b1) >>> 15) & this.#slotMask;
    for (let probe = 0; probe < MAX_PROBES; probe++) {
      this.#slot = slot;
      if (this.#slotGeneration[slot] !== this.#generation) return NONE;
      const group = this.#slotGroup[slot] ?? 0;
      if (isSameFlow(this.#memory, this.#head[group] ?? 0, ip)) return group;
      slot = (slot + 1) & this.#slotMask;
    }
    this.#slot = NONE;
    return NONE;
  }

  /** Whether the packet is what the group's next one must look like. */
  #continues(group: number, ip: IpHeader, headerLength: number): boolean {
    if (this.#headerLength[group] !== headerLength) return false;
    const memory = this.#memory;
    const head = this.#head[group] ?? 0;
    const joined = this.#joined[group] ?? 0;
    const segmentLength = this.#payloadLength[this.#headPacket[group] ?? 0] ?? 0;
    const payloadLength = ip.totalLength - headerLength;
    const totalLength = this.#totalLength[group] ?? 0;
    if (joined >= MAX_SLICES || payloadLength > segmentLength) return false;
    if (totalLength + payloadLength > MAX_TOTAL_LENGTH || !continuesIp(memory, head, ip, joined))
      return false;
    if (ip.protocol === PROTOCOL_UDP) return true;
    const ipLength = ip.transport - ip.offset;
    const before = totalLength - headerLength;
    return continuesTcp(memory, head + ipLength, ip.transport, headerLength - ipLength, before);
  }

  #isHeadSound(group: number, ip: IpHeader): boolean {
    if (this.#isVerified[group] === 1) return true;
    this.#isVerified[group] = 1;
    return isSound(this.#memory, ip, this.#head[group] ?? 0, this.#totalLength[group] ?? 0);
  }

  #close(group: number): void {
    if (group !== NONE) this.#isOpen[group] = 0;
  }

  #begin(ip: IpHeader, headerLength: number, isOpen: boolean): void {
    const group = this.#groups++;
    const packet = this.#packets++;
    this.#payloadOffset[packet] = ip.offset + headerLength;
    this.#payloadLength[packet] = ip.totalLength - headerLength;
    this.#head[group] = ip.offset;
    this.#headPacket[group] = packet;
    this.#lastPacket[group] = packet;
    this.#headerLength[group] = headerLength;
    this.#totalLength[group] = ip.totalLength;
    this.#joined[group] = 1;
    this.#isOpen[group] = isOpen ? 1 : 0;
    this.#isVerified[group] = 0;
  }

  #join(group: number, ip: IpHeader, headerLength: number): void {
    const packet = this.#packets++;
    const payloadLength = ip.totalLength - headerLength;
    this.#payloadOffset[packet] = ip.offset + headerLength;
    this.#payloadLength[packet] = payloadLength;
    this.#nextPacket[this.#lastPacket[group] ?? 0] = packet;
    this.#lastPacket[group] = packet;
    this.#totalLength[group] = (this.#totalLength[group] ?? 0) + payloadLength;
    this.#joined[group] = (this.#joined[group] ?? 0) + 1;
    if (payloadLength < (this.#payloadLength[this.#headPacket[group] ?? 0] ?? 0)) this.#close(group);
    if (isPushed(this.#memory, ip)) {
      this.#close(group);
      const { view } = this.#memory;
      const flagsAt = (this.#head[group] ?? 0) + ip.transport - ip.offset + TCP_FLAGS_OFFSET;
      view.setUint8(flagsAt, view.getUint8(flagsAt) | TCP_PSH);
    }
  }

  /** Makes the head's headers those of the whole; the kernel completes the transport checksum. */
  #writeHeaders(group: number, head: number): void {
    const memory = this.#memory;
    const { view } = memory;
    const totalLength = this.#totalLength[group] ?? 0;
    const isV4 = view.getUint8(head) >>> 4 === 4;
    const ipLength = isV4 ? IPV4_HEADER_LENGTH : IPV6_HEADER_LENGTH;
    if (isV4) {
      view.setUint16(head + IPV4_TOTAL_LENGTH_OFFSET, totalLength);
      view.setUint16(head + IPV4_CHECKSUM_OFFSET, 0);
      view.setUint16(head + IPV4_CHECKSUM_OFFSET, ~sum(memory, head, ipLength) & 0xffff);
    } else {
      view.setUint16(head + IPV6_PAYLOAD_LENGTH_OFFSET, totalLength - IPV6_HEADER_LENGTH);
    }
    const transport = head + ipLength;
    const length = totalLength - ipLength;
    const protocol = view.getUint8(head + (isV4 ? IPV4_PROTOCOL_OFFSET : IPV6_NEXT_HEADER_OFFSET));
    const isTcp = protocol === PROTOCOL_TCP;
    if (!isTcp) view.setUint16(transport + UDP_LENGTH_OFFSET, length);
    const addressesLength = isV4 ? 8 : 32;
    const pseudo = pseudoHeaderSum(memory, transport - addressesLength, addressesLength, protocol, length);
    const checksumOffset = isTcp ? TCP_CHECKSUM_OFFSET : UDP_CHECKSUM_OFFSET;
    view.setUint16(transport + checksumOffset, pseudo);
    const gsoType = isTcp ? (isV4 ? VNET_GSO_TCP_V4 : VNET_GSO_TCP_V6) : VNET_GSO_UDP;
    const headerLength = this.#headerLength[group] ?? 0;
    const segmentLength = this.#payloadLength[this.#headPacket[group] ?? 0] ?? 0;
    const at = head - VNET_HEADER_LENGTH;
    writeVnetHeader(view, at, gsoType, headerLength, segmentLength, ipLength, checksumOffset);
  }
}
