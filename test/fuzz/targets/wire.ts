// The wire formats: WireGuard messages, IP headers, checksums, virtio headers. Each against a slow and obvious reading.

import { checksum, pseudoHeaderSum, sum, updateChecksum } from '../../../native-free/wire/checksum.ts';
import { IpHeader, setEcn } from '../../../native-free/wire/ip.ts';
import {
  CookieReply,
  Initiation,
  messageType,
  Response,
  Transport,
} from '../../../native-free/wire/message.ts';
import { PacketMemory } from '../../../native-free/wire/packet-memory.ts';
import {
  vnetChecksumOffset,
  vnetChecksumStart,
  vnetFlags,
  vnetGsoSize,
  vnetGsoType,
  writePlainVnetHeader,
  writeVnetHeader,
} from '../../../native-free/wire/virtio.ts';
import { concat, slowSum } from '../../native-free/wire/packets.ts';
import { somePacket } from '../packets.ts';
import type { Source } from '../source.ts';
import { must, mustEqual, pure } from '../target.ts';

const LENGTHS: Readonly<Record<number, number>> = { 1: 148, 2: 92, 3: 64 };

const typeByTheBook = (datagram: Uint8Array): number | undefined => {
  const [type = 0, ...reserved] = datagram.subarray(0, 4);
  if (datagram.length < 4 || reserved.some((byte) => byte !== 0)) return undefined;
  if (type === 4) return datagram.length >= 32 ? 4 : undefined;
  return LENGTHS[type] === datagram.length ? type : undefined;
};

const le32 = (bytes: Uint8Array, at: number): number =>
  new DataView(bytes.buffer, bytes.byteOffset).getUint32(at, true);

const fuzzMessage = (source: Source): void => {
  const made = [
    () => Initiation.create(source.u32()).bytes,
    () => Response.create(source.u32(), source.u32()).bytes,
    () => CookieReply.create(source.u32()).bytes,
    () =>
      Transport.create(
        source.u32(),
        source.between(0, 2 ** 32) * source.between(1, 2 ** 20),
        source.between(16, 64),
      ).bytes,
    () => source.some(200),
  ];
  const start = source.pick(made)();
  const datagram = source.mutated(start);
  const expected = typeByTheBook(datagram);
  mustEqual(messageType(datagram), expected, 'the type');
  const before = datagram.slice();
  const initiation = Initiation.parse(datagram);
  const response = Response.parse(datagram);
  const cookie = CookieReply.parse(datagram);
  const transport = Transport.parse(datagram);
  mustEqual(
    [initiation, response, cookie, transport].map((one) => one !== undefined),
    [1, 2, 3, 4].map((type) => type === expected),
    'what parses it',
  );
  if (initiation !== undefined) {
    mustEqual(initiation.sender, le32(datagram, 4), 'the sender');
    const parts = [
      datagram.subarray(0, 8),
      initiation.ephemeral,
      initiation.encryptedStatic,
      initiation.encryptedTimestamp,
      initiation.macs.mac1,
      initiation.macs.mac2,
    ];
    mustEqual(concat(...parts), datagram, 'the fields one after another');
    mustEqual(
      [initiation.macs.beforeMac1.length, initiation.macs.beforeMac2.length],
      [116, 132],
      'what macs cover',
    );
  }
  if (response !== undefined) {
    mustEqual([response.sender, response.receiver], [le32(datagram, 4), le32(datagram, 8)], 'the indices');
    const parts = [
      datagram.subarray(0, 12),
      response.ephemeral,
      response.encryptedNothing,
      response.macs.mac1,
      response.macs.mac2,
    ];
    mustEqual(concat(...parts), datagram, 'the fields one after another');
  }
  if (cookie !== undefined) {
    mustEqual(cookie.receiver, le32(datagram, 4), 'the receiver');
    mustEqual(concat(datagram.subarray(0, 8), cookie.nonce, cookie.encryptedCookie), datagram, 'the fields');
  }
  if (transport !== undefined) {
    const counter = (BigInt(transport.counterHigh) << 32n) | BigInt(transport.counterLow);
    mustEqual(counter, new DataView(datagram.buffer).getBigUint64(8, true), 'the counter');
    if (counter <= BigInt(Number.MAX_SAFE_INTEGER)) {
      const again = Transport.create(transport.receiver, Number(counter), transport.sealedPacket.length);
      again.sealedPacket.set(transport.sealedPacket);
      mustEqual(again.bytes, datagram, 'what is made of its fields');
    }
  }
  mustEqual(datagram, before, 'the datagram that was only read');
};

const fuzzChecksum = (source: Source): void => {
  const offset = source.between(0, 9);
  const bytes = source.some(300);
  const tail = source.between(0, 7);
  const memory = new PacketMemory(new ArrayBuffer(offset + bytes.length + tail));
  memory.bytes.fill(0xa5);
  memory.bytes.set(bytes, offset);
  const slow = slowSum(bytes);
  mustEqual(sum(memory, offset, bytes.length), slow, 'the sum');
  mustEqual(checksum(memory, offset, bytes.length), ~slow & 0xffff, 'the checksum');
  const protocol = source.byte();
  const length = source.u16();
  if (bytes.length >= 8) {
    const header = concat(bytes.subarray(0, 8), Uint8Array.of(0, protocol, length >>> 8, length & 0xff));
    mustEqual(pseudoHeaderSum(memory, offset, 8, protocol, length), slowSum(header), 'the pseudo-header');
  }
  if (bytes.length >= 2 && bytes.length % 2 === 0) {
    const at = source.between(0, bytes.length / 2 - 1) * 2;
    const to = source.u16();
    const old = ~slow & 0xffff;
    const from = ((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0);
    const changed = bytes.slice();
    changed[at] = to >>> 8;
    changed[at + 1] = to & 0xff;
    const [a, b] = [updateChecksum(old, from, to), ~slowSum(changed) & 0xffff];
    // 0 and 0xffff are the same number in ones' complement.
    must(a === b || (a % 0xffff === 0 && b % 0xffff === 0), () => `the updated checksum is ${a}, not ${b}`);
  }
};

interface Parsed {
  readonly totalLength: number;
  readonly protocol: number;
  readonly transport: number;
  readonly isFragment: boolean;
}

/** RFC 791 and RFC 8200 read one field after another, by walking. */
const parseSlowly = (packet: Uint8Array): Parsed | string => {
  const view = new DataView(packet.buffer, packet.byteOffset, packet.length);
  if (packet.length < 20) return 'bad-length';
  const version = view.getUint8(0) >> 4;
  if (version === 4) {
    const header = (view.getUint8(0) & 15) * 4;
    const totalLength = view.getUint16(2);
    if (header < 20) return 'bad-header';
    if (totalLength < header || totalLength > packet.length) return 'bad-length';
    const more = (view.getUint8(6) & 0x20) !== 0;
    const place = view.getUint16(6) & 0x1fff;
    return {
      totalLength,
      protocol: view.getUint8(9),
      transport: place === 0 ? header : 0,
      isFragment: more || place > 0,
    };
  }
  if (version !== 6) return 'not-ip';
  if (packet.length < 40) return 'bad-length';
  const totalLength = 40 + view.getUint16(4);
  if (totalLength > packet.length) return 'bad-length';
  let protocol = view.getUint8(6);
  let at = 40;
  let isFragment = false;
  for (let headers = 1; [0, 43, 44, 60].includes(protocol); headers++) {
    if (at + 8 > totalLength) return { totalLength, protocol, transport: 0, isFragment };
    const kind = protocol;
    protocol = view.getUint8(at);
    if (kind === 44) {
      const place = view.getUint16(at + 2) >> 3;
      isFragment ||= place > 0 || (view.getUint8(at + 3) & 1) === 1;
      if (place > 0) return { totalLength, protocol, transport: 0, isFragment };
      at += 8;
    } else {
      at += 8 + view.getUint8(at + 1) * 8;
    }
    // After eight headers nobody looks any further.
    if (at > totalLength || headers === 8) return { totalLength, protocol, transport: 0, isFragment };
  }
  return { totalLength, protocol, transport: at, isFragment };
};

const fuzzIp = (source: Source): void => {
  const packet = source.mutated(somePacket(source), 6);
  const offset = source.between(0, 20);
  const memory = new PacketMemory(new ArrayBuffer(offset + packet.length));
  memory.bytes.set(packet, offset);
  const ip = new IpHeader();
  const defect = ip.parse(memory, offset, packet.length);
  const slow = parseSlowly(packet);
  if (typeof slow === 'string') {
    mustEqual(defect, slow, 'the defect');
    return;
  }
  mustEqual(defect, undefined, 'the defect');
  const transport = ip.transport === 0 ? 0 : ip.transport - offset;
  mustEqual(
    { totalLength: ip.totalLength, protocol: ip.protocol, transport, isFragment: ip.isFragment },
    slow,
    'the header',
  );
  must(
    ip.source >= offset && ip.destination + ip.addressLength <= offset + ip.totalLength,
    'an address past the end',
  );
  must(transport <= ip.totalLength, 'a transport header past the end');
  mustEqual(ip.parse(memory, offset, packet.length + 1), 'bad-length', 'more than there is');
  const whole = sum(memory, offset, 20);
  const [mark, dscp] = [source.between(0, 3), ip.trafficClass >> 2];
  setEcn(memory, ip, mark);
  mustEqual(ip.parse(memory, offset, packet.length), undefined, 'the packet with another mark');
  mustEqual(ip.trafficClass, (dscp << 2) | mark, 'the traffic class');
  if (packet[0] === 0x45 && whole === 0xffff)
    mustEqual(sum(memory, offset, 20) % 0xffff, 0, 'the checksum after the mark');
};

const fuzzVirtio = (source: Source): void => {
  const offset = source.between(0, 5);
  const view = new DataView(new ArrayBuffer(offset + 12));
  for (let i = 0; i < view.byteLength; i++) view.setUint8(i, source.byte());
  const around = [view.getUint16(offset + 10)];
  const [type, size, start, at] = [source.byte(), source.u16(), source.u16(), source.u16()];
  writeVnetHeader(view, offset, type, source.u16(), size, start, at);
  const read = [
    vnetFlags(view, offset),
    vnetGsoType(view, offset),
    vnetGsoSize(view, offset),
    vnetChecksumStart(view, offset),
    vnetChecksumOffset(view, offset),
  ];
  mustEqual(read, [1, type, size, start, at], 'the header');
  writePlainVnetHeader(view, offset);
  for (let i = 0; i < 10; i++) mustEqual(view.getUint8(offset + i), 0, 'a byte of a plain header');
  mustEqual([view.getUint16(offset + 10)], around, 'what lies behind');
};

export const wireTargets = [
  pure('message', 'messages parse as the whitepaper draws them, and back', 300, fuzzMessage),
  pure('checksum', 'sums are those of RFC 1071 read slowly', 330, fuzzChecksum),
  pure('ip', 'IP headers are read as walking through them reads them', 400, fuzzIp),
  pure('virtio', 'virtio headers are written and read alike', 40, fuzzVirtio),
];
