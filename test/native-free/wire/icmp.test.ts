// What is answered about a packet that cannot be carried, and about which none is.

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  LONGEST_UNREACHABLE,
  mayBeCut,
  writeTooBig,
  writeUnreachable,
} from '../../../native-free/wire/icmp.ts';
import { IpHeader } from '../../../native-free/wire/ip.ts';
import { PacketMemory } from '../../../native-free/wire/packet-memory.ts';
import { be16, be32, buildPacket, concat, type Flow, flowArbitrary, payload, slowSum } from './packets.ts';

const AT = 64;

/** The answer to `packet`; undefined when there is none. Nothing past it may have been written. */
const answerTo = (packet: Uint8Array, mtu?: number): Uint8Array | undefined => {
  const from = AT + LONGEST_UNREACHABLE + 64;
  const memory = new PacketMemory(new SharedArrayBuffer(from + packet.length));
  memory.bytes.fill(0xaa);
  memory.bytes.set(packet, from);
  const ip = new IpHeader();
  if (ip.parse(memory, from, packet.length) !== undefined) throw new Error('no IP packet');
  const length = mtu === undefined ? writeUnreachable(memory, ip, AT) : writeTooBig(memory, ip, mtu, AT);
  const written = memory.bytes.slice(AT, AT + length);
  expect(memory.bytes.subarray(0, AT).every((byte) => byte === 0xaa)).toBe(true);
  expect(memory.bytes.subarray(AT + length, from).every((byte) => byte === 0xaa)).toBe(true);
  expect(memory.bytes.slice(from)).toEqual(packet);
  return length === 0 ? undefined : written;
};

const V4: Flow = {
  version: 4,
  protocol: 'udp',
  source: 0x101,
  destination: 0x201,
  sourcePort: 1111,
  destinationPort: 2222,
  trafficClass: 0,
  ttl: 9,
  identification: 7,
  sequence: 0,
  acknowledgment: 0,
  flags: 0,
  window: 0,
  options: new Uint8Array(0),
};
const V6: Flow = { ...V4, version: 6 };

/** An ICMP or ICMPv6 message of a type, from one host to another. */
const icmp = (flow: Flow, type: number): Uint8Array => {
  const packet = buildPacket(flow, payload(24, 1));
  packet[flow.version === 4 ? 9 : 6] = flow.version === 4 ? 1 : 58;
  packet[flow.version === 4 ? 20 : 40] = type;
  return packet;
};
const withByte = (packet: Uint8Array, at: number, value: number): Uint8Array => {
  const copy = packet.slice();
  copy[at] = value;
  return copy;
};

describe('an unreachable', () => {
  it('goes from the destination to the source, quotes the packet, and its checksums are right', () => {
    fc.assert(
      fc.property(flowArbitrary, fc.nat(3000), (flow, length) => {
        const packet = buildPacket(flow, payload(length, 1));
        const answer = answerTo(packet);
        if (answer === undefined) throw new Error('no answer');
        const isV4 = flow.version === 4;
        const [header, addressAt, addressLength] = isV4 ? [20, 12, 4] : [40, 8, 16];
        const source = packet.slice(addressAt, addressAt + addressLength);
        const destination = packet.slice(addressAt + addressLength, addressAt + 2 * addressLength);
        expect(answer.slice(addressAt, addressAt + 2 * addressLength)).toEqual(concat(destination, source));
        expect(answer.slice(header, header + 2)).toEqual(isV4 ? Uint8Array.of(3, 1) : Uint8Array.of(1, 3));
        const quoted = Math.min(packet.length, (isV4 ? 576 : 1280) - header - 8);
        expect(answer.slice(header + 8)).toEqual(packet.slice(0, quoted));
        const body = answer.slice(header);
        if (isV4) {
          expect(answer.slice(2, 4)).toEqual(be16(answer.length));
          expect(slowSum(answer.subarray(0, 20))).toBe(0xffff);
          expect(slowSum(body)).toBe(0xffff);
        } else {
          expect(answer.slice(4, 6)).toEqual(be16(body.length));
          const pseudo = concat(destination, source, be16(0), be16(body.length), Uint8Array.of(0, 0, 0, 58));
          expect(slowSum(concat(pseudo, body))).toBe(0xffff);
        }
      }),
    );
  });

  it.each([
    ['about no IPv4 error', icmp(V4, 3), false],
    ['about no IPv4 redirect', icmp(V4, 5), false],
    ['about no IPv4 time exceeded', icmp(V4, 11), false],
    ['about an IPv4 echo request', icmp(V4, 8), true],
    ['about no IPv6 error', icmp(V6, 1), false],
    ['about no IPv6 packet too big', icmp(V6, 2), false],
    ['about an IPv6 echo request', icmp(V6, 128), true],
    ['about no IPv4 multicast', withByte(buildPacket(V4, payload(9, 1)), 16, 224), false],
    ['about no IPv4 broadcast', withByte(buildPacket(V4, payload(9, 1)), 16, 255), false],
    ['about no IPv4 multicast source', withByte(buildPacket(V4, payload(9, 1)), 12, 224), false],
    ['about no unspecified IPv4 source', withByte(buildPacket(V4, payload(9, 1)), 12, 0), false],
    ['about no IPv6 multicast', withByte(buildPacket(V6, payload(9, 1)), 24, 0xff), false],
    ['about no unspecified IPv6 source', buildPacket(V6, payload(9, 1)).fill(0, 8, 24), false],
    ['about a first IPv4 fragment', withByte(buildPacket(V4, payload(9, 1)), 6, 0x20), true],
    ['about no later IPv4 fragment', withByte(buildPacket(V4, payload(9, 1)), 7, 1), false],
  ])('is sent %s', (_, packet, isAnswered) => {
    expect(answerTo(packet) !== undefined).toBe(isAnswered);
  });
});

describe('a packet too big', () => {
  it('is an unreachable but for type, code and MTU', () => {
    fc.assert(
      fc.property(flowArbitrary, fc.nat(3000), fc.integer({ min: 0, max: 70_000 }), (flow, length, mtu) => {
        const packet = buildPacket(flow, payload(length, 1));
        const [unreachable, tooBig] = [answerTo(packet), answerTo(packet, mtu)];
        if (unreachable === undefined || tooBig === undefined) throw new Error('no answer');
        const isV4 = flow.version === 4;
        const header = isV4 ? 20 : 40;
        const said = Math.max(mtu, isV4 ? 576 : 1280);
        const told = isV4 ? concat(be16(0), be16(Math.min(said, 0xffff))) : be32(said);
        expect(tooBig.slice(header, header + 2)).toEqual(isV4 ? Uint8Array.of(3, 4) : Uint8Array.of(2, 0));
        expect(tooBig.slice(header + 4, header + 8)).toEqual(told);
        const sameAgain = tooBig.slice();
        sameAgain.set(unreachable.subarray(header, header + 8), header);
        expect(sameAgain).toEqual(unreachable);
        const pseudo = concat(
          tooBig.subarray(8, 40),
          be16(0),
          be16(tooBig.length - 40),
          Uint8Array.of(0, 0, 0, 58),
        );
        const body = tooBig.subarray(header);
        expect(slowSum(isV4 ? body : concat(pseudo, body))).toBe(0xffff);
      }),
    );
  });

  it('is not sent about an error', () => {
    expect(answerTo(icmp(V4, 3), 1000)).toBeUndefined();
    expect(answerTo(icmp(V6, 2), 1000)).toBeUndefined();
  });

  it.each([
    ['an IPv4 packet that may be cut', withByte(buildPacket(V4, payload(1400, 1)), 6, 0), true],
    ['an IPv4 packet that may not', withByte(buildPacket(V4, payload(1400, 1)), 6, 0x40), false],
    ['an IPv6 packet of 1280 bytes', buildPacket(V6, payload(1232, 1)), true],
    ['an IPv6 packet of 1281 bytes', buildPacket(V6, payload(1233, 1)), false],
  ])('is not what becomes of %s: %#', (_, packet, isCut) => {
    const memory = new PacketMemory(new ArrayBuffer(2048));
    memory.bytes.set(packet);
    const ip = new IpHeader();
    expect(ip.parse(memory, 0, packet.length)).toBeUndefined();
    expect(mayBeCut(memory, ip, packet.length)).toBe(isCut);
  });
});
