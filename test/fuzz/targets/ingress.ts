// Ingress, beside the reference: what it writes for any datagrams of peers and strangers.

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
import { Poller } from '../../../src/datapath/poller.ts';
import { createRing, Ring } from '../../../src/datapath/ring.ts';
import { createSharedMemory, NO_SLOT, SharedState } from '../../../src/datapath/shared-state.ts';
import { DATAGRAM_LENGTH, EVENT_LENGTH } from '../../../src/datapath/worker-protocol.ts';
import { monotonicNow } from '../../../src/ffi/clock.ts';
import { close, eventfd } from '../../../src/ffi/libc.ts';
import { Arena } from '../../../src/ffi/memory.ts';
import { opensslPrimitives } from '../../../src/noise/openssl-primitives.ts';
import { buildSegments } from '../../native-free/wire/packets.ts';
import { someFlow, somePacket } from '../packets.ts';
import type { Source } from '../source.ts';
import { mustEqual, type OpenTarget, type Target } from '../target.ts';

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
      poller: new Poller(this.#arena, this.#wakeFd, 0),
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

export const ingressTarget: Target = {
  name: 'ingress',
  about: 'ingress writes what the reference delivers, byte for byte',
  maxLength: 600,
  open: async () => new IngressTarget(),
};
