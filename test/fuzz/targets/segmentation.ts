// Cutting and joining super-packets: against slow twins, with hostile virtio headers, and one after the other.

import { Coalescer } from '../../../native-free/wire/coalesce.ts';
import { IpHeader } from '../../../native-free/wire/ip.ts';
import { PacketMemory } from '../../../native-free/wire/packet-memory.ts';
import { Segmenter } from '../../../native-free/wire/segment.ts';
import {
  buildPacket,
  buildSegments,
  buildSuperPacket,
  concat,
  headerLength,
  le16,
  slowPseudo,
  slowSum,
} from '../../native-free/wire/packets.ts';
import { someFlow, somePacket, somePayload } from '../packets.ts';
import type { Source } from '../source.ts';
import { must, mustEqual, pure } from '../target.ts';

const VNET = 10;
const CANARY = 0xee;
const MOST_SEGMENTS = 1024;

interface Cut {
  readonly refusal: string | undefined;
  readonly packets: readonly Uint8Array[];
}

/** Cuts, and checks what must hold of any input. */
const cut = (frame: Uint8Array, offset: number, mtu: number, room: number): Cut => {
  const memory = new PacketMemory(new ArrayBuffer(offset + frame.length + room));
  memory.bytes.fill(CANARY);
  memory.bytes.set(frame, offset);
  const segmenter = new Segmenter(memory);
  const refusal = segmenter.begin(offset, frame.length, mtu);
  const packets: Uint8Array[] = [];
  while (segmenter.next()) {
    must(packets.length < segmenter.count, 'more segments than counted');
    const { offset: at, length, paddedLength } = segmenter;
    must(at >= offset + VNET && at + paddedLength <= memory.length, 'a segment outside the memory');
    must(
      length > 0 && paddedLength >= length && paddedLength - length < 16,
      'a length or a padding that is none',
    );
    must(paddedLength === length || paddedLength <= mtu, 'padding past the MTU');
    must(
      memory.bytes.subarray(at + length, at + paddedLength).every((byte) => byte === 0),
      'padding that is not zero',
    );
    if (packets.length < segmenter.count - 1)
      mustEqual(paddedLength, segmenter.stridePlaintext, 'the stride');
    else must(paddedLength <= segmenter.stridePlaintext, 'a last segment longer than the stride');
    packets.push(memory.bytes.slice(at, at + length));
  }
  mustEqual(packets.length, refusal === undefined ? segmenter.count : 0, 'how many segments');
  must(packets.length <= MOST_SEGMENTS, 'too many segments');
  must(
    memory.bytes.subarray(0, offset).every((byte) => byte === CANARY),
    'bytes before the frame were written',
  );
  must(
    memory.bytes.subarray(offset + frame.length).every((byte) => byte === CANARY),
    'bytes after the frame were left changed',
  );
  return { refusal, packets };
};

/** Each must be a sound packet of its own with right checksums. */
const mustBeSound = (packet: Uint8Array): void => {
  const memory = new PacketMemory(packet.slice().buffer);
  const ip = new IpHeader();
  mustEqual(ip.parse(memory, 0, packet.length), undefined, 'a segment');
  mustEqual(ip.totalLength, packet.length, 'its length');
  if (ip.version === 4)
    mustEqual(slowSum(packet.slice(0, ((packet[0] ?? 0) % 16) * 4)), 0xffff, 'its IP checksum');
  const pseudo = concat(
    packet.slice(ip.source, ip.source + ip.addressLength * 2),
    Uint8Array.of(0, ip.protocol),
    Uint8Array.of((packet.length - ip.transport) >> 8, (packet.length - ip.transport) & 0xff),
  );
  mustEqual(slowSum(concat(pseudo, packet.slice(ip.transport))), 0xffff, 'its transport checksum');
};

const fuzzSegment = (source: Source): void => {
  const flow = someFlow(source);
  const gsoSize = source.pick([1, 2, 15, 16, 17, 100, 536, 1368, 1400, source.between(1, 2000)]);
  const count = source.between(1, gsoSize < 20 ? 200 : 12);
  const data = somePayload(source, 0).length === 0 ? payloadOf(source, gsoSize * count) : new Uint8Array(0);
  if (headerLength(flow) + data.length > 0xffff || data.length === 0) return;
  const { refusal, packets } = cut(
    buildSuperPacket(flow, data, gsoSize),
    source.between(0, 7),
    source.pick([1280, 1420, 9000]),
    15,
  );
  mustEqual(refusal, undefined, 'a sound super-packet');
  mustEqual(packets, buildSegments(flow, data, gsoSize), 'the segments');
};

const payloadOf = (source: Source, most: number): Uint8Array => {
  const start = source.take(16);
  const length = most - source.between(0, Math.max(0, Math.min(most, 200) - 1));
  return Uint8Array.from({ length }, (_, i) => ((start[i % 16] ?? 0) + i) & 0xff);
};

const hostileHeader = (source: Source, flowHeader: number): Uint8Array =>
  concat(
    Uint8Array.of(
      source.pick([0, 1, 2, 3, 255]),
      source.pick([0, 1, 3, 4, 5, 0x81, 0x84, 0x85, source.byte()]),
    ),
    le16(source.pick([0, flowHeader, 1, 0xffff, source.u16()])),
    le16(source.pick([0, 1, 2, 8, 100, 1400, 0xffff, source.u16()])),
    le16(source.pick([0, 20, 40, 0xffff, 0xfffe, source.u16()])),
    le16(source.pick([0, 6, 16, 0xffff, 0xfffe, source.u16()])),
  );

const fuzzHostileFrame = (source: Source): void => {
  const isSound = source.chance(80);
  const flow = someFlow(source);
  const data = somePayload(source, 3000);
  const sound = source.chance(128)
    ? buildSuperPacket(flow, data, source.pick([0, 1, 500])).slice(VNET)
    : somePacket(source, 1500);
  const packet = isSound ? sound : source.mutated(sound, 6);
  const frame = concat(hostileHeader(source, headerLength(flow)), packet);
  const short = source.chance(40) ? frame.slice(0, source.between(0, frame.length)) : frame;
  const { refusal, packets } = cut(
    short,
    source.between(0, 7),
    source.pick([1, 20, 1280, 1420, 65_535]),
    source.pick([15, 15, 16, 64, 0, 7]),
  );
  const gsoType = (frame[1] ?? 0) & 0x7f;
  if (refusal === undefined && gsoType !== 0) packets.forEach(mustBeSound);
};

const coalesce = (packets: readonly Uint8Array[], source: Source): Uint8Array[] => {
  const spacing = source.between(VNET, 19);
  const size = packets.reduce((total, packet) => total + spacing + packet.length, 0);
  const memory = new PacketMemory(new ArrayBuffer(size + 8));
  memory.bytes.fill(CANARY);
  const options = { tcp: !source.chance(20), udp: !source.chance(20) };
  const coalescer = new Coalescer(memory, Math.max(1, packets.length), options);
  const ip = new IpHeader();
  let pushed = 0;
  // An earlier batch must leave nothing behind.
  for (const batch of source.chance(60) ? [packets.slice(1), packets] : [packets]) {
    coalescer.reset();
    pushed = 0;
    let at = 0;
    for (const packet of batch) {
      at += spacing;
      memory.bytes.set(packet, at);
      if (ip.parse(memory, at, packet.length) === undefined) {
        must(coalescer.push(ip), 'the batch is not full');
        pushed++;
      }
      at += packet.length;
    }
    if (batch !== packets) coalescer.finish();
  }
  const writes: Uint8Array[] = [];
  const count = coalescer.finish();
  must(count <= pushed, 'more writes than packets');
  let slice = 0;
  for (let i = 0; i < count; i++) {
    mustEqual(coalescer.firstSlice[i], slice, 'where its slices begin');
    const slices: Uint8Array[] = [];
    for (; slice < (coalescer.firstSlice[i + 1] ?? 0); slice++) {
      const offset = coalescer.sliceOffset[slice] ?? -1;
      const length = coalescer.sliceLength[slice] ?? -1;
      must(offset >= 0 && length >= 0 && offset + length <= size, 'a slice outside the memory');
      slices.push(memory.bytes.slice(offset, offset + length));
    }
    must(slices.length >= 1 && slices.length <= 64, 'a write of no slices or too many');
    writes.push(concat(...slices));
  }
  mustEqual(slice, pushed, 'how many slices');
  return writes;
};

/** Packets of a few flows as they arrive: trains, out of order, damaged. */
const someArrivals = (source: Source): Uint8Array[] => {
  const trains: Uint8Array[][] = [];
  for (let n = source.between(1, 4); n > 0; n--) {
    const flow = someFlow(source);
    const gsoSize = source.pick([1, 7, 100, 536, 1368]);
    trains.push(buildSegments(flow, payloadOf(source, gsoSize * source.between(1, 8)), gsoSize));
  }
  const packets: Uint8Array[] = [];
  while (trains.some((train) => train.length > 0) && packets.length < 100) {
    const train = source.pick(trains);
    const next = source.chance(16) ? train.pop() : train.shift();
    if (next === undefined) trains.splice(trains.indexOf(train), 1);
    else packets.push(source.chance(24) ? source.mutated(next, 2) : next);
    if (trains.length === 0) break;
    if (source.chance(12)) packets.push(somePacket(source, 60));
    if (source.chance(8)) packets.push(next ?? new Uint8Array(20));
  }
  return packets;
};

/** A packet's flow as text, or its own bytes. */
const flowOf = (packet: Uint8Array): string => {
  const memory = new PacketMemory(packet.slice().buffer);
  const ip = new IpHeader();
  if (ip.parse(memory, 0, packet.length) !== undefined) return 'none';
  const ports =
    ip.transport === 0 ? '' : Buffer.from(packet.slice(ip.transport, ip.transport + 4)).toString('hex');
  return `${ip.version} ${ip.protocol} ${Buffer.from(packet.slice(ip.source, ip.source + ip.addressLength * 2)).toString('hex')} ${ports}`;
};

const fuzzCoalesce = (source: Source): void => {
  const packets = someArrivals(source);
  const expected = packets
    .map((packet) => {
      const ip = new IpHeader();
      const defect = ip.parse(new PacketMemory(packet.slice().buffer), 0, packet.length);
      return defect === undefined ? packet.slice(0, ip.totalLength) : undefined;
    })
    .filter((packet) => packet !== undefined);
  const writes = coalesce(packets, source);
  const out: Uint8Array[] = [];
  for (const write of writes) {
    const isSuper = (write[1] ?? 0) !== 0;
    if (!isSuper) {
      must(
        write.slice(0, VNET).every((byte) => byte === 0),
        'a plain packet with a virtio header that says something',
      );
      out.push(write.slice(VNET));
      continue;
    }
    mustEqual(new DataView(write.buffer).getUint8(0), 1, 'the flags of a super-packet');
    const { refusal, packets: segments } = cut(write, 0, 65_535, 15);
    mustEqual(refusal, undefined, 'what was joined');
    segments.forEach(mustBeSound);
    out.push(...segments);
  }
  // What came comes out, byte for byte but for the identification of unfragmentable IPv4, in order within each flow.
  for (const flow of new Set(expected.map(flowOf))) {
    const of = (all: readonly Uint8Array[]) => all.filter((packet) => flowOf(packet) === flow).map(normal);
    mustEqual(of(out), of(expected), `the packets of a flow (${flow})`);
  }
  mustEqual(out.length, expected.length, 'how many packets');
};

/** PSH moves to where the super-packet ends, and identification counts up from the first one's. */
const normal = (packet: Uint8Array): Uint8Array => {
  const out = packet.slice();
  const isV4 = (out[0] ?? 0) >>> 4 === 4;
  if (isV4 && ((out[6] ?? 0) & 0x40) !== 0) out.fill(0, 4, 6).fill(0, 10, 12);
  return out;
};

const fuzzRoundTrip = (source: Source): void => {
  const flow = { ...someFlow(source), flags: source.pick([0x10, 0x18, 0x50]) };
  const gsoSize = source.pick([1, 16, 100, 536, 1368]);
  const data = payloadOf(source, gsoSize * source.between(2, 40));
  if (headerLength(flow) + data.length > 0xffff || data.length <= gsoSize) return;
  const whole = buildSuperPacket(flow, data, gsoSize);
  const { packets } = cut(whole, 0, 65_535, 15);
  const joined = joinAll(packets);
  const parts = joined.flatMap((write) =>
    (write[1] ?? 0) === 0 ? [write.slice(VNET)] : cut(write, 0, 65_535, 15).packets,
  );
  mustEqual(parts, packets, 'what is cut, joined and cut again');
  if (packets.length <= 64) mustEqual(joined, [whole], 'what is cut and joined again');
};

const joinAll = (packets: readonly Uint8Array[]): Uint8Array[] => {
  const size = packets.reduce((total, packet) => total + VNET + packet.length, 0);
  const memory = new PacketMemory(new ArrayBuffer(size));
  const coalescer = new Coalescer(memory, packets.length, { tcp: true, udp: true });
  const ip = new IpHeader();
  coalescer.reset();
  let at = 0;
  for (const packet of packets) {
    at += VNET;
    memory.bytes.set(packet, at);
    mustEqual(ip.parse(memory, at, packet.length), undefined, 'a segment');
    coalescer.push(ip);
    at += packet.length;
  }
  return Array.from({ length: coalescer.finish() }, (_, i) => {
    const slices: Uint8Array[] = [];
    for (let s = coalescer.firstSlice[i] ?? 0; s < (coalescer.firstSlice[i + 1] ?? 0); s++)
      slices.push(
        memory.bytes.slice(
          coalescer.sliceOffset[s] ?? 0,
          (coalescer.sliceOffset[s] ?? 0) + (coalescer.sliceLength[s] ?? 0),
        ),
      );
    return concat(...slices);
  });
};

/** A plain packet that leaves its checksum to be completed, wherever it says that it is. */
const fuzzCompletion = (source: Source): void => {
  const flow = someFlow(source);
  const data = somePayload(source, 300);
  const { packets, refusal } = cut(buildSuperPacket(flow, data, 0), 0, 1420, 15);
  mustEqual(refusal, undefined, 'a packet without its checksum');
  const built = buildPacket(flow, data);
  // As in Linux (skb_checksum_help) a sum of zero is written as its other form, whatever the protocol.
  const at = headerLength(flow) - (flow.protocol === 'tcp' ? 4 + flow.options.length : 2);
  if (built[at] === 0 && built[at + 1] === 0) built.fill(0xff, at, at + 2);
  mustEqual(packets, [built], 'the packet with its checksum');
  must(slowPseudo(flow, data.length) <= 0xffff, 'a sum past 16 bits');
};

export const segmentationTargets = [
  pure('segment', 'super-packets are cut into what the slow twin builds', 64, fuzzSegment),
  pure(
    'hostile-frame',
    'no virtio header or packet makes cutting write or read outside',
    200,
    fuzzHostileFrame,
  ),
  pure('coalesce', 'joining changes no packet and keeps the order of each flow', 600, fuzzCoalesce),
  pure('cut-and-join', 'what is cut and joined is what it was', 64, fuzzRoundTrip),
  pure('completion', 'a checksum left to complete becomes right', 80, fuzzCompletion),
];
