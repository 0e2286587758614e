// What the reference data plane reads of an IP packet: addresses, true length and traffic class. Headers are read by wire/ip.ts.

import { IpHeader, setEcn } from '../wire/ip.ts';
import { PacketMemory } from '../wire/packet-memory.ts';

export interface InnerPacket {
  /** 4 or 16 bytes, views into the packet. */
  readonly source: Uint8Array;
  readonly destination: Uint8Array;
  /** The length that the IP header gives; what lies after is padding. */
  readonly totalLength: number;
  /** DSCP in the upper six bits, ECN in the lower two. */
  readonly trafficClass: number;
}

/** Undefined when it is not a sound IP packet. Borrows. */
export const readInnerPacket = (packet: Uint8Array): InnerPacket | undefined => {
  const header = new IpHeader();
  const memory = new PacketMemory(packet.slice().buffer);
  if (header.parse(memory, 0, packet.length) !== undefined) return undefined;
  const { source, destination, addressLength, totalLength, trafficClass } = header;
  return {
    source: packet.subarray(source, source + addressLength),
    destination: packet.subarray(destination, destination + addressLength),
    totalLength,
    trafficClass,
  };
};

/** A copy with another ECN mark, and an IPv4 checksum to match. The packet is one that `readInnerPacket` took. */
export const withMark = (packet: Uint8Array, mark: number): Uint8Array => {
  const header = new IpHeader();
  const copy = packet.slice();
  const memory = new PacketMemory(copy.buffer);
  if (header.parse(memory, 0, copy.length) === undefined) setEcn(memory, header, mark);
  return copy;
};
