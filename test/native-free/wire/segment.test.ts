import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { PacketMemory } from '../../../native-free/wire/packet-memory.ts';
import { Segmenter } from '../../../native-free/wire/segment.ts';
import {
  be16,
  buildPacket,
  buildSegments,
  buildSuperPacket,
  concat,
  type Flow,
  flowArbitrary,
  headerLength,
  payload,
} from './packets.ts';

const MTU = 1420;

const FLOW: Flow = {
  version: 4,
  protocol: 'tcp',
  source: 1,
  destination: 2,
  sourcePort: 1000,
  destinationPort: 2000,
  trafficClass: 0x02,
  ttl: 63,
  identification: 0xfffe,
  sequence: 0xffffff00,
  acknowledgment: 5,
  flags: 0x99,
  window: 500,
  options: new Uint8Array(12),
};

const load = (bytes: Uint8Array, offset = 0, tail = 15) => {
  const memory = new PacketMemory(new SharedArrayBuffer(offset + bytes.length + tail));
  memory.bytes.set(bytes, offset);
  return { memory, segmenter: new Segmenter(memory) };
};

const cut = (bytes: Uint8Array, offset = 0, mtu = MTU) => {
  const { memory, segmenter } = load(bytes, offset);
  memory.bytes.fill(0xee, offset + bytes.length);
  const refusal = segmenter.begin(offset, bytes.length, mtu);
  const segments: Uint8Array[] = [];
  const paddings: Uint8Array[] = [];
  while (segmenter.next()) {
    const end = segmenter.offset + segmenter.length;
    segments.push(memory.bytes.slice(segmenter.offset, end));
    paddings.push(memory.bytes.slice(end, segmenter.offset + segmenter.paddedLength));
  }
  return { refusal, segments, paddings, segmenter };
};

/** A super-packet: a flow, a payload and the size to cut it to. */
const superPacket = fc
  .record({
    flow: flowArbitrary,
    gsoSize: fc.integer({ min: 1, max: 1400 }),
    count: fc.integer({ min: 1, max: 40 }),
    short: fc.nat(),
    seed: fc.integer({ min: 1, max: 0xffff }),
    offset: fc.integer({ min: 0, max: 7 }),
  })
  .map(({ flow, gsoSize, count, short, seed, offset }) => ({
    flow,
    gsoSize,
    offset,
    data: payload(gsoSize * count - (short % gsoSize), seed),
  }));

describe('segment', () => {
  it('cuts a super-packet into what the slow twin builds field by field', () => {
    fc.assert(
      fc.property(superPacket, ({ flow, gsoSize, offset, data }) => {
        const { refusal, segments, segmenter } = cut(buildSuperPacket(flow, data, gsoSize), offset);
        expect(refusal).toBeUndefined();
        expect(segmenter.count).toBe(segments.length);
        expect(segments).toEqual(buildSegments(flow, data, gsoSize));
      }),
      { numRuns: 300 },
    );
  });

  it('pads every segment with zeros to 16, never past the MTU, all but the last to one size', () => {
    fc.assert(
      fc.property(superPacket, ({ flow, gsoSize, data }) => {
        const { segments, paddings, segmenter } = cut(buildSuperPacket(flow, data, gsoSize));
        segments.forEach((segment, i) => {
          const padding = paddings[i] ?? new Uint8Array(1).fill(1);
          const padded = segment.length + padding.length;
          expect(padding.every((byte) => byte === 0)).toBe(true);
          if (segment.length > MTU) expect(padding.length).toBe(0);
          else expect(padded).toBe(Math.min(Math.ceil(segment.length / 16) * 16, MTU));
          if (i < segments.length - 1) expect(padded).toBe(segmenter.stridePlaintext);
          else expect(padded).toBeLessThanOrEqual(segmenter.stridePlaintext);
        });
      }),
      { numRuns: 100 },
    );
  });

  it('keeps CWR on the first segment only, FIN and PSH on the last only, and counts ID and sequence past their ends', () => {
    const { segments } = cut(buildSuperPacket(FLOW, payload(3000, 1), 1000));
    const flagsOf = (segment: Uint8Array) => segment[33];
    expect(segments.map(flagsOf)).toEqual([0x90, 0x10, 0x19]);
    expect(segments.map((segment) => [...segment.slice(4, 6)])).toEqual([
      [0xff, 0xfe],
      [0xff, 0xff],
      [0, 0],
    ]);
    expect(segments.map((segment) => new DataView(segment.buffer).getUint32(24))).toEqual([
      0xffffff00, 0x2e8, 0x6d0,
    ]);
  });

  it('leaves all flags on a super-packet that is one segment', () => {
    const { segments } = cut(buildSuperPacket(FLOW, payload(10, 1), 1000));
    expect(segments).toEqual([buildPacket(FLOW, payload(10, 1))]);
  });

  it('completes the checksum of a plain packet that needs it', () => {
    fc.assert(
      fc.property(flowArbitrary, fc.integer({ min: 0, max: 1300 }), (flow, length) => {
        const data = payload(length, 3);
        const { refusal, segments } = cut(buildSuperPacket(flow, data, 0));
        expect(refusal).toBeUndefined();
        const expected = buildPacket(flow, data);
        const at = headerLength(flow) - (flow.protocol === 'tcp' ? flow.options.length + 4 : 2);
        const [got] = segments;
        // TCP's checksum 0 may be written as 0xffff: the same number in ones' complement.
        if (got !== undefined && expected[at] === 0 && expected[at + 1] === 0) expected.set(be16(0xffff), at);
        expect(segments).toEqual([expected]);
      }),
    );
  });

  it('passes a plain packet with no flags unchanged, cut to its IP length', () => {
    const packet = buildPacket(FLOW, payload(100, 1));
    const { segments } = cut(concat(new Uint8Array(10), packet, Uint8Array.of(1, 2, 3)));
    expect(segments).toEqual([packet]);
  });

  it('makes a UDP checksum of zero 0xffff', () => {
    const flow: Flow = { ...FLOW, protocol: 'udp' };
    // Find the payload word that makes the sum come out as zero.
    const open = buildPacket(flow, Uint8Array.of(0, 0));
    const checksum = ((open[26] ?? 0) << 8) | (open[27] ?? 0);
    const { segments } = cut(buildSuperPacket(flow, be16(checksum), 100));
    expect([...(segments[0]?.slice(26, 28) ?? [])]).toEqual([0xff, 0xff]);
  });

  describe('refuses', () => {
    const sound = () => buildSuperPacket(FLOW, payload(3000, 1), 1000);
    const change = (at: number, ...bytes: number[]) => {
      const packet = sound();
      packet.set(bytes, at);
      return cut(packet).refusal;
    };
    it('a header cut short', () => expect(cut(sound().slice(0, 9)).refusal).toBe('bad-length'));
    it('a packet cut short', () => expect(cut(sound().slice(0, 1000)).refusal).toBe('bad-length'));
    it('an IP version it does not know', () => expect(change(10, 0x55)).toBe('not-ip'));
    it('an IHL below five', () => expect(change(10, 0x44)).toBe('bad-header'));
    it('an unknown kind of super-packet', () => expect(change(1, 3)).toBe('bad-gso-type'));
    it('TCPv6 for an IPv4 packet', () => expect(change(1, 4)).toBe('bad-gso-type'));
    it('a UDP kind for TCP', () => expect(change(1, 5)).toBe('bad-gso-type'));
    it('a segment size of zero', () => expect(change(4, 0, 0)).toBe('bad-gso-size'));
    it('segments larger than a packet can be', () => expect(change(4, 0xff, 0xff)).toBe('bad-gso-size'));
    it('a super-packet of more than 1024 segments, which costs as much as so many packets', () => {
      const of = (segments: number) => cut(buildSuperPacket(FLOW, payload(segments * 8, 1), 8)).refusal;
      expect(of(1024)).toBeUndefined();
      expect(of(1025)).toBe('bad-gso-size');
    });
    it('a fragment that claims to be a super-packet', () => expect(change(16, 0x20)).toBe('bad-transport'));
    it('a TCP data offset below five', () => expect(change(10 + 32, 0x40)).toBe('bad-transport'));
    it('a checksum start elsewhere than at the transport', () =>
      expect(change(6, 21, 0)).toBe('bad-checksum-offsets'));
    it('a checksum outside a plain packet', () => {
      const plain = buildSuperPacket(FLOW, payload(10, 1), 0);
      plain.set([0xff, 0xff], 8);
      expect(cut(plain).refusal).toBe('bad-checksum-offsets');
      plain.set([4, 0, 16, 0], 6);
      expect(cut(plain).refusal).toBe('bad-checksum-offsets');
    });
    it('memory with no room for the padding', () => {
      const bytes = sound();
      const { segmenter } = load(bytes, 0, 14);
      expect(segmenter.begin(0, bytes.length, MTU)).toBe('no-room');
      expect(segmenter.next()).toBe(false);
    });
  });

  it('never throws and never writes outside the packet and its padding, whatever it is given', () => {
    const mutation = fc.array(fc.tuple(fc.nat(), fc.integer({ min: 0, max: 255 })), { maxLength: 6 });
    fc.assert(
      fc.property(superPacket, mutation, fc.nat(), ({ flow, gsoSize, data }, mutations, cutTo) => {
        const bytes = buildSuperPacket(flow, data.slice(0, 3000), gsoSize);
        for (const [at, value] of mutations) bytes[at % Math.min(80, bytes.length)] = value;
        const length = cutTo % 4 === 0 ? cutTo % bytes.length : bytes.length;
        const guard = 64;
        const memory = new PacketMemory(new ArrayBuffer(guard + bytes.length + guard));
        memory.bytes.fill(0xee);
        memory.bytes.set(bytes, guard);
        const segmenter = new Segmenter(memory);
        if (segmenter.begin(guard, length, MTU) === undefined) {
          let count = 0;
          while (segmenter.next()) count++;
          expect(count).toBe(segmenter.count);
        } else {
          expect(segmenter.next()).toBe(false);
        }
        expect(memory.bytes.subarray(0, guard).every((byte) => byte === 0xee)).toBe(true);
        expect(memory.bytes.subarray(guard + bytes.length).every((byte) => byte === 0xee)).toBe(true);
      }),
      { numRuns: 500 },
    );
  });
});
