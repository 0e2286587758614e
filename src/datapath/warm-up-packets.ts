// What a warm-up sends through a worker: packets as a TUN hands them over, a virtio_net_hdr before each.

import { fold, pseudoHeaderSum } from '../../native-free/wire/checksum.ts';
import { PacketMemory } from '../../native-free/wire/packet-memory.ts';

export const MTU = 1420;
const MSS = 1368;
/** Until V8's best compiler has nothing left to do, as it is set meanwhile; with fewer it goes on among the first real packets. */
const ROUNDS = 75;
/** Of a last segment that is shorter. */
const ODD = 333;
const SMALL_PACKETS_A_ROUND = 30;

/** To whom there is a session, to whom there is none yet, and where nobody is. */
const PEER_V4 = '0a000001';
const WAITING_V4 = '0b000001';
const NOBODY_V4 = '0c000001';
const GROUP_V4 = 'e0000016';
const PEER_V6 = 'fd000000000000000000000000000001';
const GROUP_V6 = 'ff020000000000000000000000000002';

const VNET_TCP_V4 = 1;
const VNET_TCP_V6 = 4;
const ACK = 0x10;
const PUSH = 0x08;

/** As they would come from a TUN: bulk data of both families, and what small packets there are; again and again. */
export function* rounds(count = ROUNDS): Generator<readonly Uint8Array[]> {
  const bulk = [tcpPacket(4, 20 * MSS + ODD), tcpPacket(6, 20 * (MSS - 20) + ODD)];
  const small = [udpPacket(), echoRequest(PEER_V4), tcpPacket(4, 0), tcpPacket(6, 0)];
  const round = [...bulk];
  while (round.length < bulk.length + SMALL_PACKETS_A_ROUND) round.push(...small);
  for (let i = 0; i < count; i++) yield round;
}

/** More than is read ahead at once, and a packet of a new flow among it, which may overtake; `number`: from 0. */
export const pile = (number: number): readonly Uint8Array[] => {
  const large = tcpPacket(4, 40 * MSS + ODD);
  return [large, udpPacket(number + 1), large, large, large];
};

/** What nobody is there to take: a user's mistake, and what a kernel sends by itself. */
export const toNobody = (): readonly Uint8Array[] => [
  echoRequest(NOBODY_V4),
  echoRequest(GROUP_V4),
  routerSolicitation(),
];

/** What has to wait for a handshake. */
export const toWaiting = (): Uint8Array => echoRequest(WAITING_V4);

/** A virtio_net_hdr and a TCP packet to itself: a super-packet, or an acknowledgement when there is no payload. */
const tcpPacket = (family: 4 | 6, payloadLength: number): Uint8Array => {
  const ipLength = family === 4 ? 20 : 40;
  const headerLength = ipLength + 32;
  const length = headerLength + payloadLength;
  const packet = Buffer.alloc(10 + length);
  packet.writeUInt8(1, 0);
  if (payloadLength > 0) {
    packet.writeUInt8(family === 4 ? VNET_TCP_V4 : VNET_TCP_V6, 1);
    packet.writeUInt16LE(headerLength, 2);
    packet.writeUInt16LE(family === 4 ? MSS : MSS - 20, 4);
  }
  packet.writeUInt16LE(ipLength, 6);
  packet.writeUInt16LE(16, 8);
  writeIpHeader(packet, family, 6, length);
  const tcp = 10 + ipLength;
  packet.writeUInt8(8 << 4, tcp + 12);
  packet.writeUInt8(payloadLength > 0 && family === 4 ? ACK | PUSH : ACK, tcp + 13);
  return packet;
};

/** A virtio_net_hdr and an ICMP echo request, as ping sends it. Nobody looks at its checksum. */
const echoRequest = (to: string): Uint8Array => {
  const packet = Buffer.alloc(10 + 84);
  writeIpHeader(packet, 4, 1, 84);
  packet.write(to, 10 + 16, 'hex');
  packet.writeUInt8(8, 10 + 20);
  return packet;
};

/** A virtio_net_hdr and what Linux sends on an interface that comes up. */
const routerSolicitation = (): Uint8Array => {
  const packet = Buffer.alloc(10 + 56);
  writeIpHeader(packet, 6, 58, 56);
  packet.write(GROUP_V6, 10 + 24, 'hex');
  return packet;
};

/** A virtio_net_hdr and a UDP packet of 100 bytes. */
const udpPacket = (sourcePort = 0): Uint8Array => {
  const packet = Buffer.alloc(10 + 128);
  writeIpHeader(packet, 4, 17, 128);
  packet.writeUInt16BE(sourcePort, 10 + 20);
  packet.writeUInt16BE(108, 10 + 20 + 4);
  const memory = new PacketMemory(Uint8Array.from(packet).buffer);
  packet.writeUInt16BE(
    ~fold(pseudoHeaderSum(memory, 22, 8, 17, 108) + 108 + sourcePort) & 0xffff,
    10 + 20 + 6,
  );
  return packet;
};

const writeIpHeader = (packet: Buffer, family: 4 | 6, protocol: number, length: number): void => {
  if (family === 4) {
    packet.writeUInt8(0x45, 10);
    packet.writeUInt16BE(length, 12);
    packet.writeUInt16BE(0x4000, 16);
    packet.writeUInt8(64, 18);
    packet.writeUInt8(protocol, 19);
    packet.write(PEER_V4 + PEER_V4, 22, 'hex');
  } else {
    packet.writeUInt8(0x60, 10);
    packet.writeUInt16BE(length - 40, 14);
    packet.writeUInt8(protocol, 16);
    packet.writeUInt8(64, 17);
    packet.write(PEER_V6 + PEER_V6, 18, 'hex');
  }
};
