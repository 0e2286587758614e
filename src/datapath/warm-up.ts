// Runs a worker's packet code on synthetic packets before the first real one comes, so that V8 has compiled it by then.
// Everything it touches is made for the occasion: a state with one peer, counters nobody reads, a socket that sends to
// itself and is never read, /dev/null for a TUN.

import { MessageChannel } from 'node:worker_threads';
import { buildAllowedIpsTable } from '../../native-free/device/allowed-ips-table.ts';
import { parsePrefix } from '../../native-free/ipam/prefix.ts';
import { fold, pseudoHeaderSum } from '../../native-free/wire/checksum.ts';
import { PacketMemory } from '../../native-free/wire/packet-memory.ts';
import { Segmenter } from '../../native-free/wire/segment.ts';
import { monotonicNow } from '../ffi/clock.ts';
import { close, eventfd, O_CLOEXEC, O_RDWR, open } from '../ffi/libc.ts';
import { Arena } from '../ffi/memory.ts';
import { type Aead, createAead, HEADROOM, TAG_LENGTH } from './aead.ts';
import { createCounterMemory } from './counters.ts';
import type { Egress } from './egress.ts';
import type { Ingress } from './ingress.ts';
import { KeypairSlots } from './keypair-slots.ts';
import { createRing } from './ring.ts';
import { createSharedMemory, SharedState } from './shared-state.ts';
import { encodePath } from './sockaddr.ts';
import { openSink, type UdpSockets } from './udp.ts';
import type { Configuration, WorkerOptions } from './worker-protocol.ts';

const DEVICE = 0;
const PEER = 0;
const INDEX = 1;
const MTU = 1420;
const MSS = 1368;
/** Enough for V8's optimizing compiler to take an interest; some 50 ms. */
const SUPER_PACKETS = 60;
const SMALL_PACKETS = 1500;

const V4_ADDRESSES = '0a0000010a000001';
const V6_ADDRESSES = 'fd000000000000000000000000000001'.repeat(2);
const VNET_TCP_V4 = 1;
const VNET_TCP_V6 = 4;

/** `create` builds the egress of the worker, here from options of its own. */
export const warmUpEgress = (
  options: WorkerOptions,
  create: (arena: Arena, options: WorkerOptions) => Egress,
  arenaLength: number,
): void =>
  inSandbox(options, (sandbox) => {
    const arena = new Arena(arenaLength);
    const egress = create(arena, sandbox);
    egress.configure();
    const small = udpPacket();
    for (let i = 0; i < SUPER_PACKETS; i++) {
      egress.inject(DEVICE, tcpSuperPacket(4));
      egress.inject(DEVICE, tcpSuperPacket(6));
      for (let n = 0; n < SMALL_PACKETS / SUPER_PACKETS; n++) egress.inject(DEVICE, small);
      egress.finishTurn();
    }
    arena.unmap();
  });

export const warmUpIngress = (
  options: WorkerOptions,
  create: (arena: Arena, options: WorkerOptions) => Ingress,
  arenaLength: number,
): void =>
  inSandbox(options, (sandbox) => {
    const arena = new Arena(arenaLength);
    const ingress = create(arena, sandbox);
    ingress.configure();
    const sealer = new Sealer(sandbox);
    const small = udpPacket();
    for (let i = 0; i < SUPER_PACKETS; i++) {
      for (const family of [4, 6] as const) {
        const datagrams = sealer.sealAll(tcpSuperPacket(family));
        ingress.inject(datagrams, 16 + MTU + TAG_LENGTH);
      }
      for (let n = 0; n < SMALL_PACKETS / SUPER_PACKETS; n++) ingress.inject(sealer.sealAll(small), 0);
    }
    sealer.close();
    arena.unmap();
  });

/** Options like the worker's own, with one device, one peer and one session that sends to itself. */
const inSandbox = (options: WorkerOptions, work: (sandbox: WorkerOptions) => void): void => {
  const sink = openSink();
  const tun = open('/dev/null', O_RDWR | O_CLOEXEC);
  const wakeFd = eventfd(0, 0);
  const { port1, port2 } = new MessageChannel();
  try {
    const memory = createSharedMemory(1, 4);
    const state = new SharedState(memory);
    state.initPeer(PEER, DEVICE);
    state.paths.setEndpoint(PEER, encodePath({ address: '127.0.0.1', port: sink.port }));
    const key = new Uint8Array(32);
    const slots = new KeypairSlots(state);
    slots.install(PEER, {
      localIndex: INDEX,
      remoteIndex: INDEX,
      sendKey: key,
      receiveKey: key,
      isInitiator: true,
      createdAt: monotonicNow(),
    });
    state.setKeypairInUse(PEER, slots.slotOf(INDEX, PEER) ?? 0);
    const udp: UdpSockets = { ...options.udp, v4: sink.fd, v6: -1 };
    const allowedIps = buildAllowedIpsTable(
      ['10.0.0.0/8', 'fd00::/8'].map((prefix) => ({ prefix: parsePrefix(prefix), value: PEER })),
    );
    const changes: Configuration[] = [
      { sequence: 1, change: { kind: 'add-device', device: DEVICE, fd: tun, mtu: MTU, offload: 'tcp+udp' } },
      { sequence: 2, change: { kind: 'set-allowed-ips', device: DEVICE, allowedIps } },
    ];
    for (const change of changes) port1.postMessage(change);
    work({
      ...options,
      port: port2,
      memory,
      udp,
      wakeFd,
      counters: createCounterMemory(new Array(64).fill('')),
      events: createRing(options.events.entryLength, 4),
      extra: createRing(options.extra.entryLength, 4),
    });
  } finally {
    port1.close();
    for (const fd of [sink.fd, tun, wakeFd]) close(fd);
  }
};

/** Makes the datagrams that an egress would have sent. */
class Sealer {
  readonly #arena = new Arena(512 << 10);
  readonly #aead: Aead;
  readonly #segmenter: Segmenter;
  readonly #key: number;
  readonly #from: number;
  readonly #to: number;
  #counter = 0;

  constructor(options: WorkerOptions) {
    this.#aead = createAead(this.#arena, options.aeadTier);
    this.#segmenter = new Segmenter(new PacketMemory(this.#arena.buffer));
    this.#key = this.#arena.allocate(32);
    this.#from = this.#arena.allocate(65536 + 1024) + 2 * HEADROOM;
    this.#to = this.#arena.allocate(4096) + HEADROOM;
  }

  /** One after another, as UDP GRO hands them over. */
  sealAll(packet: Uint8Array): Uint8Array {
    const { bytes, view } = this.#arena;
    bytes.set(packet, this.#from);
    this.#segmenter.begin(this.#from, packet.length, MTU);
    const messages: Uint8Array[] = [];
    while (this.#segmenter.next()) {
      const { offset, paddedLength } = this.#segmenter;
      this.#aead.seal(this.#key, this.#counter, offset, paddedLength, this.#to);
      const header = this.#to - 16;
      view.setUint32(header, 4, true);
      view.setUint32(header + 4, INDEX, true);
      view.setUint32(header + 8, this.#counter++, true);
      view.setUint32(header + 12, 0, true);
      messages.push(bytes.slice(header, this.#to + paddedLength + TAG_LENGTH));
    }
    return Buffer.concat(messages);
  }

  close(): void {
    this.#arena.unmap();
  }
}

/** A virtio_net_hdr and a TCP super-packet of 20 segments, to itself. */
const tcpSuperPacket = (family: 4 | 6): Uint8Array => {
  const ipLength = family === 4 ? 20 : 40;
  const mss = family === 4 ? MSS : MSS - 20;
  const headerLength = ipLength + 32;
  const length = headerLength + 20 * mss;
  const packet = Buffer.alloc(10 + length);
  packet.writeUInt8(1, 0);
  packet.writeUInt8(family === 4 ? VNET_TCP_V4 : VNET_TCP_V6, 1);
  packet.writeUInt16LE(headerLength, 2);
  packet.writeUInt16LE(mss, 4);
  packet.writeUInt16LE(ipLength, 6);
  packet.writeUInt16LE(16, 8);
  writeIpHeader(packet, family, 6, length);
  const tcp = 10 + ipLength;
  packet.writeUInt8(8 << 4, tcp + 12);
  packet.writeUInt8(0x10, tcp + 13);
  return packet;
};

/** A virtio_net_hdr and a UDP packet of 100 bytes. */
const udpPacket = (): Uint8Array => {
  const packet = Buffer.alloc(10 + 128);
  writeIpHeader(packet, 4, 17, 128);
  packet.writeUInt16BE(108, 10 + 20 + 4);
  const memory = new PacketMemory(Uint8Array.from(packet).buffer);
  packet.writeUInt16BE(~fold(pseudoHeaderSum(memory, 22, 8, 17, 108) + 108) & 0xffff, 10 + 20 + 6);
  return packet;
};

const writeIpHeader = (packet: Buffer, family: 4 | 6, protocol: number, length: number): void => {
  if (family === 4) {
    packet.writeUInt8(0x45, 10);
    packet.writeUInt16BE(length, 12);
    packet.writeUInt16BE(0x4000, 16);
    packet.writeUInt8(64, 18);
    packet.writeUInt8(protocol, 19);
    packet.write(V4_ADDRESSES, 22, 'hex');
  } else {
    packet.writeUInt8(0x60, 10);
    packet.writeUInt16BE(length - 40, 14);
    packet.writeUInt8(protocol, 16);
    packet.writeUInt8(64, 17);
    packet.write(V6_ADDRESSES, 18, 'hex');
  }
};
