import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { IpHeader, setEcn } from '../../../native-free/wire/ip.ts';
import { PacketMemory } from '../../../native-free/wire/packet-memory.ts';
import {
  be16,
  buildPacket,
  concat,
  flowArbitrary,
  headerLength,
  payload,
  protocolNumber,
} from './packets.ts';

const parse = (packet: Uint8Array, length = packet.length, offset = 6) => {
  const memory = new PacketMemory(new SharedArrayBuffer(offset + packet.length));
  memory.bytes.set(packet, offset);
  const ip = new IpHeader();
  return { memory, ip, defect: ip.parse(memory, offset, length), offset };
};

/** An IPv6 packet with the given chain: each header's number, and its bytes past the next-header field. */
const v6 = (
  chain: readonly (readonly [number, Uint8Array])[],
  last: number,
  rest: Uint8Array,
): Uint8Array => {
  const numbers = [...chain.map(([number]) => number), last];
  const headers = chain.map(([, body], i) => concat(Uint8Array.of(numbers[i + 1] ?? 0), body));
  const body = concat(...headers, rest);
  const [first = 0] = numbers;
  return concat(
    Uint8Array.of(0x60, 0, 0, 0),
    be16(body.length),
    Uint8Array.of(first, 64),
    payload(32, 1),
    body,
  );
};

const HOP_BY_HOP = [0, new Uint8Array(7)] as const;
const LONG_OPTIONS = [60, Uint8Array.of(2, ...new Uint8Array(22))] as const;
const fragment = (word: number) => [44, concat(Uint8Array.of(0), be16(word), new Uint8Array(4))] as const;
const UDP = new Uint8Array(8);

describe('an IP header', () => {
  it('is read as it was built', () => {
    fc.assert(
      fc.property(flowArbitrary, fc.nat(100), fc.nat(20), (flow, length, trailing) => {
        const packet = concat(buildPacket(flow, payload(length, 1)), new Uint8Array(trailing));
        const { ip, defect, offset } = parse(packet);
        const ipLength = flow.version === 4 ? 20 : 40;
        expect(defect).toBeUndefined();
        expect({ ...ip }).toEqual({
          version: flow.version,
          offset,
          totalLength: headerLength(flow) + length,
          source: offset + (flow.version === 4 ? 12 : 8),
          destination: offset + (flow.version === 4 ? 16 : 24),
          addressLength: flow.version === 4 ? 4 : 16,
          protocol: protocolNumber(flow),
          transport: offset + ipLength,
          isFragment: false,
          trafficClass: flow.trafficClass,
        });
      }),
    );
  });

  it('is refused when the packet is shorter than it says', () => {
    fc.assert(
      fc.property(flowArbitrary, fc.nat(), (flow, cut) => {
        const packet = buildPacket(flow, payload(50, 1));
        expect(parse(packet, cut % packet.length).defect).toBe('bad-length');
      }),
    );
    expect(parse(new Uint8Array(40).fill(0x70)).defect).toBe('not-ip');
    expect(parse(new Uint8Array(40).with(0, 0x44)).defect).toBe('bad-header');
    expect(parse(new Uint8Array(40).with(0, 0x45).with(3, 19)).defect).toBe('bad-length');
  });

  it('is refused when it lies outside the memory', () => {
    const { memory } = parse(new Uint8Array(40));
    expect(new IpHeader().parse(memory, 10, 41)).toBe('bad-length');
    expect(new IpHeader().parse(memory, -1, 40)).toBe('bad-length');
  });

  it('leads to UDP behind IPv6 extension headers', () => {
    const { ip, offset } = parse(v6([HOP_BY_HOP, LONG_OPTIONS], 17, UDP));
    expect([ip.protocol, ip.transport, ip.isFragment]).toEqual([17, offset + 40 + 8 + 24, false]);
  });

  it('of a fragment says so, and leads to a transport only in the first one', () => {
    const first = parse(v6([fragment(0x0001)], 17, UDP));
    expect([first.ip.isFragment, first.ip.transport]).toEqual([true, first.offset + 48]);
    const later = parse(v6([fragment(0x0009)], 17, UDP));
    expect([later.ip.isFragment, later.ip.transport]).toEqual([true, 0]);
    const atomic = parse(v6([fragment(0)], 17, UDP));
    expect([atomic.ip.isFragment, atomic.ip.transport]).toEqual([false, atomic.offset + 48]);
    const packet = new Uint8Array(28).with(0, 0x45).with(3, 28).with(9, 17);
    const v4 = (word: number) => {
      packet.set(be16(word), 6);
      const { ip } = parse(packet);
      return [ip.isFragment, ip.transport !== 0];
    };
    expect(v4(0x4000)).toEqual([false, true]);
    expect(v4(0x2000)).toEqual([true, true]);
    expect(v4(0x2001)).toEqual([true, false]);
    expect(v4(0x0001)).toEqual([true, false]);
  });

  it('leads to no transport when its extension headers run out of the packet or never end', () => {
    expect(parse(v6([[60, Uint8Array.of(200, 0, 0, 0, 0, 0, 0)]], 17, UDP)).ip.transport).toBe(0);
    expect(parse(v6([HOP_BY_HOP], 60, new Uint8Array(4))).ip.transport).toBe(0);
    expect(parse(v6(Array(9).fill(HOP_BY_HOP), 17, UDP)).ip.transport).toBe(0);
  });

  it('never throws, whatever the bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 120 }), fc.constantFrom(0x45, 0x60, 0x4f, 0), (bytes, first) => {
        if (bytes.length > 0 && first !== 0) bytes[0] = first;
        const { ip, defect, offset } = parse(bytes);
        if (defect !== undefined) return;
        expect(ip.totalLength).toBeLessThanOrEqual(bytes.length);
        expect(ip.transport).toBeLessThanOrEqual(offset + ip.totalLength);
        expect(ip.destination + ip.addressLength).toBeLessThanOrEqual(offset + ip.totalLength);
      }),
      { numRuns: 1000 },
    );
  });

  it('takes another ECN and keeps its checksum right', () => {
    fc.assert(
      fc.property(flowArbitrary, fc.nat(3), (flow, value) => {
        const { memory, ip, offset } = parse(buildPacket(flow, payload(10, 1)));
        setEcn(memory, ip, value);
        const expected = buildPacket(
          { ...flow, trafficClass: (flow.trafficClass & 0xfc) | value },
          payload(10, 1),
        );
        expect(memory.bytes.slice(offset)).toEqual(expected);
        expect(ip.trafficClass & 3).toBe(value);
      }),
    );
  });
});
