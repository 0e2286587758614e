import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Coalescer, type CoalescerOptions, MAX_SLICES } from '../../../native-free/wire/coalesce.ts';
import { IpHeader } from '../../../native-free/wire/ip.ts';
import { PacketMemory } from '../../../native-free/wire/packet-memory.ts';
import { Segmenter } from '../../../native-free/wire/segment.ts';
import { buildPacket, buildSegments, buildSuperPacket, concat, type Flow, payload } from './packets.ts';

const ALL: CoalescerOptions = { tcp: true, udp: true };
const HEADROOM = 16;

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
  sequence: 0xfffff000,
  acknowledgment: 5,
  flags: 0x10,
  window: 500,
  options: Uint8Array.of(1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2),
};

/** The writes, each as its slices. */
const coalesceSlices = (packets: readonly Uint8Array[], options = ALL, spacing = HEADROOM) => {
  const size = packets.reduce((total, packet) => total + spacing + packet.length, 0);
  const memory = new PacketMemory(new SharedArrayBuffer(size));
  const coalescer = new Coalescer(memory, Math.max(1, packets.length), options);
  const ip = new IpHeader();
  coalescer.reset();
  let at = 0;
  for (const packet of packets) {
    at += spacing;
    memory.bytes.set(packet, at);
    expect(ip.parse(memory, at, packet.length)).toBeUndefined();
    expect(coalescer.push(ip)).toBe(true);
    at += packet.length;
  }
  const writes: Uint8Array[][] = [];
  const count = coalescer.finish();
  for (let i = 0; i < count; i++) {
    const slices: Uint8Array[] = [];
    for (let s = coalescer.firstSlice[i] ?? 0; s < (coalescer.firstSlice[i + 1] ?? 0); s++) {
      const offset = coalescer.sliceOffset[s] ?? 0;
      slices.push(memory.bytes.slice(offset, offset + (coalescer.sliceLength[s] ?? 0)));
    }
    writes.push(slices);
  }
  return writes;
};

const coalesce = (packets: readonly Uint8Array[], options = ALL, spacing = HEADROOM): Uint8Array[] =>
  coalesceSlices(packets, options, spacing).map((slices) => concat(...slices));

/** What a kernel would make of a write again. */
const cut = (write: Uint8Array): Uint8Array[] => {
  const memory = new PacketMemory(new ArrayBuffer(write.length + 16));
  memory.bytes.set(write);
  const segmenter = new Segmenter(memory);
  expect(segmenter.begin(0, write.length, 65535)).toBeUndefined();
  const packets: Uint8Array[] = [];
  while (segmenter.next())
    packets.push(memory.bytes.slice(segmenter.offset, segmenter.offset + segmenter.length));
  return packets;
};

const plain = (packet: Uint8Array): Uint8Array => concat(new Uint8Array(10), packet);

const joinable: fc.Arbitrary<Flow> = fc
  .record({
    version: fc.constantFrom<4 | 6>(4, 6),
    protocol: fc.constantFrom<'tcp' | 'udp'>('tcp', 'udp'),
    source: fc.integer({ min: 0, max: 3 }),
    sourcePort: fc.integer({ min: 0, max: 3 }),
    trafficClass: fc.constantFrom(0, 1, 2, 3, 0xb8),
    identification: fc.integer({ min: 0, max: 0xffff }),
    sequence: fc.integer({ min: 0, max: 0xffffffff }),
    flags: fc.constantFrom(0x10, 0x18, 0x50),
    options: fc.constantFrom(new Uint8Array(0), FLOW.options),
  })
  .map((fields) => ({ ...FLOW, ...fields }));

describe('coalesce', () => {
  it('gives back the super-packet that was cut', () => {
    fc.assert(
      fc.property(
        joinable,
        fc.integer({ min: 1, max: 1000 }),
        fc.integer({ min: 2, max: MAX_SLICES }),
        fc.nat(),
        fc.integer({ min: 10, max: 19 }),
        (flow, gsoSize, count, short, spacing) => {
          const data = payload(gsoSize * count - (short % gsoSize), 5);
          expect(coalesce(buildSegments(flow, data, gsoSize), ALL, spacing)).toEqual([
            buildSuperPacket(flow, data, gsoSize),
          ]);
        },
      ),
      { numRuns: 200 },
    );
  });

  it('joins sixteen interleaved flows into one super-packet each', () => {
    const flows = Array.from({ length: 16 }, (_, i) => ({ ...FLOW, sourcePort: 5000 + i, sequence: i * 77 }));
    const data = payload(1368 * 4, 9);
    const trains = flows.map((flow) => buildSegments(flow, data, 1368));
    const packets = [0, 1, 2, 3].flatMap((i) => trains.flatMap((train) => train.slice(i, i + 1)));
    expect(coalesce(packets)).toEqual(flows.map((flow) => buildSuperPacket(flow, data, 1368)));
  });

  it('describes a super-packet by slices of the packets where they lie', () => {
    const data = payload(250, 2);
    const [slices] = coalesceSlices(buildSegments(FLOW, data, 100));
    expect(slices?.map((slice) => slice.length)).toEqual([10 + 20 + 32 + 100, 100, 50]);
  });

  describe('cut again, every flow is what it was, in order', () => {
    const KINDS = [
      'push',
      'fin',
      'gap',
      'corrupt',
      'corrupt-ip',
      'ack',
      'window',
      'options',
      'ttl',
      'ecn',
      'no-df',
      'udp-no-checksum',
    ] as const;
    interface Step {
      readonly flow: number;
      readonly length: number;
      readonly kind: 'next' | (typeof KINDS)[number];
    }
    const step: fc.Arbitrary<Step> = fc.record({
      flow: fc.nat(5),
      length: fc.constantFrom(0, 1, 99, 100, 100, 100, 100, 100),
      kind: fc.oneof(
        { arbitrary: fc.constant<Step['kind']>('next'), weight: 12 },
        { arbitrary: fc.constantFrom<Step['kind'][]>(...KINDS), weight: 3 },
      ),
    });
    type Mutable<T> = { -readonly [K in keyof T]: T[K] };
    const train = (flows: Mutable<Flow>[], steps: readonly Step[]) =>
      steps.flatMap(({ flow: chosen, length, kind }, i) => {
        const index = chosen % flows.length;
        const flow = flows[index];
        if (flow === undefined) return [];
        if (kind === 'gap') flow.sequence = (flow.sequence + 7) >>> 0;
        if (kind === 'ack') flow.acknowledgment += 1;
        if (kind === 'window') flow.window += 1;
        if (kind === 'options') flow.options = flow.options.map((byte) => byte ^ 1);
        if (kind === 'ttl') flow.ttl -= 1;
        if (kind === 'ecn') flow.trafficClass ^= 3;
        const flags = kind === 'push' ? 0x18 : kind === 'fin' ? 0x11 : 0x10;
        const packet = buildPacket({ ...flow, flags }, payload(length, i + 1));
        flow.sequence = (flow.sequence + length) >>> 0;
        flow.identification = (flow.identification + 1) & 0xffff;
        const end = packet.length;
        if (kind === 'corrupt') packet[end - 1] = (packet[end - 1] ?? 0) ^ 0x10;
        if (kind === 'corrupt-ip' && flow.version === 4) packet[10] = (packet[10] ?? 0) ^ 0x10;
        if (kind === 'no-df' && flow.version === 4) {
          packet[6] = 0;
          const view = new DataView(packet.buffer);
          const sum = view.getUint16(10) + 0x4000;
          view.setUint16(10, (sum & 0xffff) + (sum >>> 16));
        }
        if (kind === 'udp-no-checksum' && flow.protocol === 'udp')
          packet.fill(0, end - length - 2, end - length);
        return [{ packet, index }];
      });

    it('whatever is lost, reordered, corrupted or changed between', () => {
      fc.assert(
        fc.property(
          fc.array(joinable, { minLength: 1, maxLength: 4 }),
          fc.array(step, { maxLength: 60 }),
          (arbitraryFlows, steps) => {
            const flows: Mutable<Flow>[] = arbitraryFlows.map((flow, i) => ({ ...flow, destinationPort: i }));
            const sent = train(flows, steps);
            const writes = coalesce(sent.map(({ packet }) => packet));
            const got = writes.flatMap(cut);
            const portOf = (packet: Uint8Array) => packet[(packet[0] ?? 0) >>> 4 === 4 ? 23 : 43];
            for (const index of flows.keys()) {
              expect(got.filter((packet) => portOf(packet) === index)).toEqual(
                sent.filter((entry) => entry.index === index).map(({ packet }) => packet),
              );
            }
          },
        ),
        { numRuns: 500 },
      );
    });
  });

  const [first, second, third] = buildSegments(FLOW, payload(300, 4), 100);
  if (first === undefined || second === undefined || third === undefined) throw new Error('no packets');

  it('never joins a packet whose checksum is wrong, nor joins past it', () => {
    const bad = second.slice();
    bad[70] = (bad[70] ?? 0) ^ 1;
    expect(coalesce([first, bad, third])).toEqual([plain(first), plain(bad), plain(third)]);
  });

  it('never joins to a head whose checksum is wrong', () => {
    const bad = first.slice();
    bad[70] = (bad[70] ?? 0) ^ 1;
    const writes = coalesce([bad, second, third]);
    expect(writes[0]).toEqual(plain(bad));
    expect(writes.flatMap(cut)).toEqual([bad, second, third]);
    expect(writes).toHaveLength(2);
  });

  it('ends a super-packet at PSH and keeps the PSH', () => {
    const data = payload(200, 4);
    const head = buildSegments({ ...FLOW, flags: 0x18 }, data, 100);
    const next = buildSegments({ ...FLOW, sequence: FLOW.sequence + 200, identification: 0 }, data, 100);
    expect(coalesce([...head, ...next])).toEqual([
      buildSuperPacket({ ...FLOW, flags: 0x18 }, data, 100),
      buildSuperPacket({ ...FLOW, sequence: FLOW.sequence + 200, identification: 0 }, data, 100),
    ]);
  });

  it('does not join across a pure acknowledgment of the same flow', () => {
    const pure = buildPacket({ ...FLOW, sequence: FLOW.sequence + 100 }, new Uint8Array(0));
    expect(coalesce([first, pure, second])).toEqual([plain(first), plain(pure), plain(second)]);
  });

  it('never joins fragments, SYN, FIN, RST, URG or CWR', () => {
    for (const flags of [0x12, 0x11, 0x14, 0x30, 0x90, 0x00]) {
      const packets = [
        buildPacket({ ...FLOW, flags }, payload(100, 1)),
        buildPacket({ ...FLOW, flags, sequence: FLOW.sequence + 100 }, payload(100, 2)),
      ];
      expect(coalesce(packets)).toEqual(packets.map(plain));
    }
    const fragments = [first, second].map((packet) => packet.with(6, 0x20));
    expect(coalesce(fragments)).toEqual(fragments.map(plain));
  });

  it('stays below 64 KB and opens the next super-packet', () => {
    const writes = coalesce(buildSegments(FLOW, payload(1368 * 100, 1), 1368));
    expect(writes).toHaveLength(3);
    for (const write of writes) expect(write.length - 10).toBeLessThanOrEqual(65535);
    expect(writes.flatMap(cut)).toEqual(buildSegments(FLOW, payload(1368 * 100, 1), 1368));
  });

  it('makes no super-packet of more than MAX_SLICES slices', () => {
    const packets = buildSegments(FLOW, payload(MAX_SLICES + 6, 1), 1);
    expect(coalesceSlices(packets).map((slices) => slices.length)).toEqual([MAX_SLICES, 6]);
  });

  it('joins packets that may be fragmented only while their identification counts up', () => {
    const mayFragment = (flow: Flow, seed: number) => {
      const packet = buildPacket(flow, payload(100, seed));
      const view = new DataView(packet.buffer);
      view.setUint16(6, 0);
      const sum = view.getUint16(10) + 0x4000;
      view.setUint16(10, (sum & 0xffff) + (sum >>> 16));
      return packet;
    };
    const flow: Flow = { ...FLOW, protocol: 'udp', identification: 7 };
    const head = mayFragment(flow, 1);
    const next = mayFragment({ ...flow, identification: 8 }, 2);
    const other = mayFragment({ ...flow, identification: 10 }, 3);
    const writes = coalesce([head, next, other]);
    expect(writes).toHaveLength(2);
    expect(writes.flatMap(cut)).toEqual([head, next, other]);
  });

  it('joins only what it is asked to', () => {
    const udp = buildSegments({ ...FLOW, protocol: 'udp' }, payload(300, 1), 100);
    expect(coalesce(udp, { tcp: true, udp: false })).toEqual(udp.map(plain));
    const tcp = [first, second, third];
    expect(coalesce(tcp, { tcp: false, udp: true })).toEqual(tcp.map(plain));
  });

  it('passes anything else unchanged', () => {
    const icmp = concat(first.slice(0, 20), payload(40, 1)).with(9, 1).with(2, 0).with(3, 60);
    const truncatedTcp = first.slice(0, 22).with(2, 0).with(3, 22);
    const emptyUdp = buildPacket({ ...FLOW, protocol: 'udp' }, new Uint8Array(0));
    const packets = [icmp, truncatedTcp, emptyUdp, icmp];
    expect(coalesce(packets)).toEqual(packets.map(plain));
  });

  it('says when a batch is full, and forgets it on reset', () => {
    const memory = new PacketMemory(new ArrayBuffer(4096));
    const coalescer = new Coalescer(memory, 2, ALL);
    const ip = new IpHeader();
    for (let round = 0; round < 3; round++) {
      coalescer.reset();
      const pushed = [first, second, third].map((packet, i) => {
        const at = 16 + i * 256;
        memory.bytes.set(packet, at);
        ip.parse(memory, at, packet.length);
        return coalescer.push(ip);
      });
      expect(pushed).toEqual([true, true, false]);
      expect(coalescer.finish()).toBe(1);
    }
  });

  it('never throws, whatever the packets hold', () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(joinable, fc.array(fc.tuple(fc.nat(60), fc.nat(255)), { maxLength: 4 })), {
          maxLength: 12,
        }),
        (mutants) => {
          const memory = new PacketMemory(new ArrayBuffer(8192));
          const coalescer = new Coalescer(memory, 16, ALL);
          const ip = new IpHeader();
          coalescer.reset();
          let accepted = 0;
          mutants.forEach(([flow, mutations], i) => {
            const packet = buildPacket(flow, payload(30, 1));
            for (const [at, value] of mutations) packet[at % packet.length] = value;
            memory.bytes.set(packet, 32 + i * 256);
            if (ip.parse(memory, 32 + i * 256, packet.length) !== undefined) return;
            accepted++;
            coalescer.push(ip);
          });
          const count = coalescer.finish();
          expect(coalescer.firstSlice[count]).toBe(accepted);
        },
      ),
      { numRuns: 300 },
    );
  });
});
