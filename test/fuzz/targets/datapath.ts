// The datapath's structures without its threads: rings, the table of receiver indices, the mailbox, socket addresses,
// and the whole of ingress with a file for its TUN, against the reference data plane.

import { closeSync, ftruncateSync, mkdtempSync, openSync, readSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { MessageChannel } from 'node:worker_threads';
import { AllowedIps } from '../../../native-free/device/allowed-ips.ts';
import { buildAllowedIpsTable } from '../../../native-free/device/allowed-ips-table.ts';
import { receiveTransport } from '../../../native-free/device/inbound.ts';
import { ReferenceDataPlane } from '../../../native-free/device/reference-data-plane.ts';
import { parsePrefix } from '../../../native-free/ipam/prefix.ts';
import { messageType, Transport } from '../../../native-free/wire/message.ts';
import { PacketMemory } from '../../../native-free/wire/packet-memory.ts';
import { Segmenter } from '../../../native-free/wire/segment.ts';
import { createAead } from '../../../src/datapath/aead.ts';
import { Counters, createCounterMemory, INGRESS_COUNTERS } from '../../../src/datapath/counters.ts';
import { EventSink } from '../../../src/datapath/event-sink.ts';
import { createHandOver } from '../../../src/datapath/hand-over.ts';
import { Ingress } from '../../../src/datapath/ingress.ts';
import { KeypairSlots } from '../../../src/datapath/keypair-slots.ts';
import { Mailbox } from '../../../src/datapath/mailbox.ts';
import { Poller } from '../../../src/datapath/poller.ts';
import { createRing, Ring } from '../../../src/datapath/ring.ts';
import { createSegmentRing, SegmentRing } from '../../../src/datapath/segment-ring.ts';
import { createSharedMemory, NO_SLOT, SharedState } from '../../../src/datapath/shared-state.ts';
import { decodeSockaddr, encodeSockaddr } from '../../../src/datapath/sockaddr.ts';
import { DATAGRAM_LENGTH, EVENT_LENGTH } from '../../../src/datapath/worker-protocol.ts';
import { monotonicNow } from '../../../src/ffi/clock.ts';
import { close, eventfd } from '../../../src/ffi/libc.ts';
import { Arena } from '../../../src/ffi/memory.ts';
import { opensslPrimitives } from '../../../src/noise/openssl-primitives.ts';
import { buildSegments } from '../../native-free/wire/packets.ts';
import { someFlow, somePacket } from '../packets.ts';
import type { Source } from '../source.ts';
import { must, mustEqual, type OpenTarget, pure, type Target } from '../target.ts';

const fuzzRing = (source: Source): void => {
  const capacity = source.pick([1, 2, 8]);
  const memory = createRing(8, capacity);
  const [producer, consumer] = [new Ring(memory), new Ring(memory)];
  const positions = new Int32Array(memory.buffer);
  // As after many entries: positions wrap.
  const start = source.pick([0, -1, 0x7fffffff, -0x80000000]);
  positions[0] = start;
  positions[16] = start;
  const queue: number[] = [];
  let isDue = false;
  while (!source.isEmpty) {
    const action = source.between(0, 3);
    if (action === 0) {
      const entry = producer.reserve();
      mustEqual(entry >= 0, queue.length < capacity, 'whether there is room');
      if (entry < 0) continue;
      const value = source.byte();
      producer.view.setUint32(entry, value);
      producer.commit();
      queue.push(value);
    } else if (action === 1) {
      const entry = consumer.peek();
      mustEqual(entry >= 0, queue.length > 0, 'whether something waits');
      if (entry < 0) continue;
      mustEqual(consumer.view.getUint32(entry), queue.shift(), 'the oldest entry');
      consumer.release();
    } else if (action === 2) {
      mustEqual(producer.claimWakeUp(), !isDue, 'whether to wake');
      isDue = true;
    } else {
      consumer.clearWakeUp();
      isDue = false;
    }
    mustEqual(consumer.length, queue.length, 'how many wait');
  }
};

const fuzzSegmentRing = (source: Source): void => {
  const memory = createSegmentRing();
  const [giver, taker] = [new SegmentRing(memory), new SegmentRing(memory)];
  const waiting: { readonly bytes: Uint8Array; readonly trafficClass: number }[] = [];
  const taken = new Uint8Array(64 + 65_536);
  while (!source.isEmpty) {
    if (source.chance(140)) {
      const bytes = new Uint8Array(64 + source.pick([0, 1, 60, 1500, 9000, 65_535])).fill(
        source.between(0, 255),
      );
      const length = bytes.length - 64;
      const trafficClass = source.between(0, 255);
      if (giver.push(bytes, 64, length, 0, trafficClass)) waiting.push({ bytes, trafficClass });
      else must(waiting.length > 0, 'an empty ring has no room');
      continue;
    }
    const next = waiting.shift();
    mustEqual(taker.take(taken, 64, 0), next !== undefined, 'whether something waits');
    if (next === undefined) continue;
    mustEqual(taker.trafficClass, next.trafficClass, 'the traffic class');
    mustEqual(Buffer.compare(taken.subarray(64, 64 + taker.length), next.bytes.subarray(64)), 0, 'the bytes');
    mustEqual(Buffer.compare(taken.subarray(0, 44), next.bytes.subarray(0, 44)), 0, 'the path');
  }
};

const fuzzKeypairTable = (source: Source): void => {
  const state = new SharedState(createSharedMemory(4, 8));
  const slots = new KeypairSlots(state);
  const model = new Map<number, { peer: number; remoteIndex: number }>();
  for (let peer = 0; peer < 4; peer++) state.initPeer(peer, 0);
  while (!source.isEmpty) {
    // Few indices, whose places in the table collide.
    const localIndex = source.pick([0, 1, 31, 32, 33, 64, 0xffffffff, 0xffffffe0, 0x80000000]);
    const peer = source.between(0, 3);
    const action = source.between(0, 4);
    if (action < 2 && (model.size < 8 || model.has(localIndex))) {
      const remoteIndex = source.u32();
      const key = source.take(32);
      slots.install(peer, {
        localIndex,
        remoteIndex,
        sendKey: key,
        receiveKey: key,
        isInitiator: true,
        createdAt: 1,
      });
      model.set(localIndex, { peer, remoteIndex });
    } else if (action === 2) {
      slots.remove(localIndex);
      model.delete(localIndex);
    } else if (action === 3) {
      slots.removeAllOf(peer);
      for (const [index, one] of model) if (one.peer === peer) model.delete(index);
    } else {
      slots.reap();
    }
    for (const index of [0, 1, 31, 32, 33, 64, 0xffffffff, 0xffffffe0, 0x80000000, source.u32()]) {
      const slot = state.findKeypair(index);
      const expected = model.get(index);
      if (expected === undefined) mustEqual(slot, NO_SLOT, `the slot of ${index}`);
      else {
        must(slot !== NO_SLOT, () => `${index} is lost`);
        mustEqual(
          [state.peerOf(slot), state.remoteIndexOf(slot)],
          [expected.peer, expected.remoteIndex],
          'the keypair',
        );
      }
    }
  }
};

const fuzzSockaddr = (source: Source): void => {
  const bytes = source.take(28);
  bytes.set(
    source.pick([
      [2, 0],
      [10, 0],
      [0, 0],
      [source.byte(), source.byte()],
    ]),
    0,
  );
  // No interface of this machine has such a number, so it stays a number.
  if (source.chance(200)) bytes.fill(0, 24, 28);
  else bytes[27] = 0x7f;
  const endpoint = decodeSockaddr(bytes);
  const family = (bytes[0] ?? 0) | ((bytes[1] ?? 0) << 8);
  must((endpoint !== undefined) === (family === 2 || family === 10), 'an endpoint of another family');
  if (endpoint === undefined) return;
  const again = decodeSockaddr(encodeSockaddr(endpoint));
  mustEqual(again, endpoint, 'the endpoint there and back');
};

const fuzzMailbox = (source: Source): void => {
  let told = 0;
  const mailbox = new Mailbox(
    {
      onEvent: (_, event) => {
        must(
          event.peer === 'p' &&
            ['handshake-needed', 'keypair-confirmed', 'endpoint-moved'].includes(event.kind),
          'an event that is none',
        );
        told++;
      },
      onDatagram: (datagram, endpoint, waiting) => {
        must(
          datagram.length <= 148 && endpoint.address.length > 0 && waiting >= 0,
          'a datagram that is none',
        );
        told++;
      },
      onDeviceLost: (id) => {
        mustEqual(id, 'd', 'the device');
        told++;
      },
    },
    {
      peer: (slot) => (slot === 1 ? { slot, deviceId: 'd', peerId: 'p' } : undefined),
      device: (number) => (number === 1 ? 'd' : undefined),
    },
    2,
  );
  const datagrams = mailbox.datagramMemories;
  const memories = [...mailbox.ingressMemories, ...mailbox.egressMemories, ...datagrams];
  let entries = 0;
  while (!source.isEmpty && entries < 100) {
    const memory = source.pick(memories);
    const ring = new Ring(memory);
    const entry = ring.reserve();
    must(entry >= 0, 'the ring is full');
    ring.bytes.set(source.take(memory.entryLength), entry);
    ring.view.setUint32(
      entry,
      datagrams.includes(memory) ? source.between(0, 148) : source.between(0, 6),
      true,
    );
    if (source.chance(128)) ring.view.setInt32(entry + 4, datagrams.includes(memory) ? 2 : 1, true);
    ring.commit();
    entries++;
    if (source.chance(60)) mailbox.drain();
  }
  for (let n = 0; n < 8; n++) mailbox.drain();
  mailbox.close();
  must(told <= entries, 'more was told than entries were');
  for (const memory of memories) mustEqual(new Ring(memory).length, 0, 'what was left');
};

const PEERS = ['10.0.0.0/8', '10.60.0.0/16', 'fd00::/8'] as const;
const HOME = { address: '127.0.0.1', port: 9 };

/** Ingress as its worker builds it, with a file in which each write can be read back. */
class IngressTarget implements OpenTarget {
  readonly #directory = mkdtempSync(join(tmpdir(), 'vl3t-fuzz-'));
  readonly #file = openSync(join(this.#directory, 'tun'), 'a+');
  readonly #wakeFd = eventfd(0, 0);
  readonly #channel = new MessageChannel();
  readonly #arena = new Arena(Ingress.ARENA + (128 << 10));
  readonly #state = new SharedState(createSharedMemory(PEERS.length, 16));
  readonly #slots = new KeypairSlots(this.#state);
  readonly #counters = new Counters(INGRESS_COUNTERS, createCounterMemory(INGRESS_COUNTERS));
  readonly #events = createRing(EVENT_LENGTH, 4096);
  readonly #datagrams = createRing(DATAGRAM_LENGTH, 1024);
  readonly #ingress: Ingress;
  #run = 0;

  constructor() {
    this.#ingress = new Ingress({
      pair: 0,
      handOver: createHandOver([-1]),
      arena: this.#arena,
      aead: createAead(this.#arena),
      state: this.#state,
      counters: this.#counters,
      udp: { v4: -1, v6: -1, port: 0, offloads: { segmentation: false, coalescing: false } },
      poller: new Poller(this.#arena, this.#wakeFd, Ingress.SOCKETS),
      events: new EventSink(this.#events, this.#channel.port2),
      datagrams: new Ring(this.#datagrams),
      port: this.#channel.port2,
    });
    const allowedIps = buildAllowedIpsTable(
      PEERS.map((prefix, value) => ({ prefix: parsePrefix(prefix), value })),
    );
    const { port1 } = this.#channel;
    const device = { device: 0, fds: [this.#file], mtu: 1420, offload: 'tcp+udp' } as const;
    port1.postMessage({ sequence: 1, change: { kind: 'add-device', ...device } });
    port1.postMessage({ sequence: 2, change: { kind: 'set-allowed-ips', device: 0, allowedIps } });
    this.#ingress.configure();
    PEERS.forEach((_, peer) => {
      this.#state.initPeer(peer, 0);
    });
  }

  run(source: Source): void {
    this.#run++;
    const delivered: Uint8Array[] = [];
    const allowedIps = new AllowedIps<string>();
    PEERS.forEach((prefix, peer) => {
      allowedIps.insert(parsePrefix(prefix), String(peer));
    });
    const plane = new ReferenceDataPlane(1420, {
      primitives: opensslPrimitives,
      allowedIps,
      inside: { deliver: (packet) => delivered.push(packet) },
      outside: { send: () => undefined },
      report: () => undefined,
    });
    const key = source.take(32);
    const createdAt = monotonicNow();
    PEERS.forEach((_, peer) => {
      const localIndex = peer + 1 + this.#run * 16;
      const keypair = {
        localIndex,
        remoteIndex: 1,
        sendKey: key,
        receiveKey: key,
        isInitiator: true,
        createdAt,
      };
      this.#slots.install(peer, keypair);
      this.#state.setKeypairInUse(peer, this.#slots.slotOf(localIndex, peer) ?? NO_SLOT);
      plane.carryOut({ kind: 'install-keypair', peer: String(peer), keypair }, createdAt);
    });
    let handshakes = 0;
    for (let n = 0; n < 6 && !source.isEmpty; n++) {
      const batch = this.#someBatch(source, key);
      const size = source.chance(30)
        ? source.between(1, 1500)
        : Math.max(1, ...batch.map((one) => one.length));
      // The kernel joins datagrams of one size, but for the last.
      const joined = Buffer.concat(batch).subarray(0, 60_000);
      this.#ingress.inject(joined, size);
      for (let at = 0; at < joined.length; at += size) {
        const datagram = new Uint8Array(joined.subarray(at, at + size));
        if (messageType(datagram) === 4) receiveTransport(plane, datagram, HOME, createdAt);
        else if (messageType(datagram) !== undefined) handshakes++;
      }
    }
    mustEqual(new Ring(this.#datagrams).length, handshakes, 'the handshake messages handed over');
    const out = this.#readBack();
    mustEqual(byFlow(out), byFlow(delivered), 'what was written');
    this.#forget();
  }

  #someBatch(source: Source, key: Uint8Array): Uint8Array[] {
    const inner: Uint8Array[] = [];
    if (source.chance(100)) {
      const size = source.pick([1, 100, 1000]);
      inner.push(
        ...buildSegments(
          someFlow(source),
          new Uint8Array(size * source.between(1, 20)).fill(source.byte()),
          size,
        ),
      );
    } else {
      for (let n = source.between(1, 5); n > 0; n--) inner.push(source.mutated(somePacket(source, 300), 2));
    }
    let counter = source.pick([0, 0, 5000, 2 ** 32, 2 ** 52, source.u16()]);
    return inner.map((packet) => {
      const index = source.pick([1, 2, 3, 4]) + this.#run * 16;
      const padded = new Uint8Array(Math.ceil(packet.length / 16) * 16);
      padded.set(packet);
      const message = Transport.create(index, counter++, padded.length + 16);
      message.sealedPacket.set(opensslPrimitives.seal(key, BigInt(counter - 1), padded, new Uint8Array(0)));
      if (source.chance(16)) return source.some(160);
      return source.chance(24) ? source.mutated(message.bytes, 2) : message.bytes;
    });
  }

  /** Cuts what was written into packets again; each write tells its own length. */
  #readBack(): Uint8Array[] {
    const buffer = new Uint8Array(1 << 20);
    const length = readSync(this.#file, buffer, 0, buffer.length, 0);
    const packets: Uint8Array[] = [];
    for (let at = 0; at < length; ) {
      const version = (buffer[at + 10] ?? 0) >> 4;
      const view = new DataView(buffer.buffer, at + 10);
      const size = 10 + (version === 4 ? view.getUint16(2) : 40 + view.getUint16(4));
      const memory = new PacketMemory(new ArrayBuffer(size + 16));
      memory.bytes.set(buffer.subarray(at, at + size));
      const segmenter = new Segmenter(memory);
      mustEqual(segmenter.begin(0, size, 65_535), undefined, 'what was written is a packet');
      while (segmenter.next())
        packets.push(memory.bytes.slice(segmenter.offset, segmenter.offset + segmenter.length));
      at += size;
    }
    return packets;
  }

  #forget(): void {
    ftruncateSync(this.#file);
    PEERS.forEach((_, peer) => {
      this.#slots.removeAllOf(peer);
    });
    this.#slots.reap();
    for (const memory of [this.#events, this.#datagrams]) {
      const ring = new Ring(memory);
      while (ring.peek() >= 0) ring.release();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#channel.port1.close();
    close(this.#wakeFd);
    closeSync(this.#file);
    rmSync(this.#directory, { recursive: true, force: true });
    this.#arena.unmap();
  }
}

/** Packets by the flow they are of; in a flow the order counts. Identification of what may not be fragmented does not. */
const byFlow = (packets: readonly Uint8Array[]): Record<string, string[]> => {
  const flows: Record<string, string[]> = {};
  for (const packet of packets) {
    const isV4 = (packet[0] ?? 0) >> 4 === 4;
    const copy = packet.slice();
    if (isV4 && ((copy[6] ?? 0) & 0x40) !== 0) copy.fill(0, 4, 6).fill(0, 10, 12);
    const flow = Buffer.from(isV4 ? packet.slice(9, 24) : packet.slice(6, 44)).toString('hex');
    const isWhole = isV4 ? flow.slice(0, 2) + flow.slice(6) : flow.slice(0, 2) + flow.slice(4);
    flows[isWhole] = [...(flows[isWhole] ?? []), Buffer.from(copy).toString('hex')];
  }
  return Object.fromEntries(Object.entries(flows).sort(([a], [b]) => (a < b ? -1 : 1)));
};

const ingress: Target = {
  name: 'ingress',
  about: 'ingress writes what the reference delivers, byte for byte',
  maxLength: 600,
  open: async () => new IngressTarget(),
};

export const datapathTargets = [
  pure('ring', 'a ring is a queue', 200, fuzzRing),
  pure('segment-ring', 'datagrams come out of a ring as they went in', 100, fuzzSegmentRing),
  pure('keypair-table', 'every installed receiver index is found, and no other', 400, fuzzKeypairTable),
  pure('sockaddr', 'socket addresses go there and back', 40, fuzzSockaddr),
  pure('mailbox', 'no entry of a ring breaks the main thread', 600, fuzzMailbox),
  ingress,
];
