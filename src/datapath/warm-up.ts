// Runs a worker's packet code on synthetic packets before the first real one comes, so that V8 has compiled it by then.
// Everything it touches is made for the occasion: a state with one peer, counters nobody reads, a socket that sends to
// itself, a pair of local sockets for a TUN. The loop that waits, reads and writes is run, too: until it is compiled, a packet
// that comes alone takes twice as long.

import { MessageChannel } from 'node:worker_threads';
import { buildAllowedIpsTable } from '../../native-free/device/allowed-ips-table.ts';
import { parsePrefix } from '../../native-free/ipam/prefix.ts';
import { fold, pseudoHeaderSum } from '../../native-free/wire/checksum.ts';
import { PacketMemory } from '../../native-free/wire/packet-memory.ts';
import { Segmenter } from '../../native-free/wire/segment.ts';
import { monotonicNow } from '../ffi/clock.ts';
import {
  close,
  eventfd,
  MSG_DONTWAIT,
  O_CLOEXEC,
  O_NONBLOCK,
  read,
  sendmsg,
  socketpair,
  write,
} from '../ffi/libc.ts';
import { Arena } from '../ffi/memory.ts';
import { type Aead, createAead, HEADROOM, TAG_LENGTH } from './aead.ts';
import { createCounterMemory } from './counters.ts';
import type { Egress } from './egress.ts';
import type { Ingress } from './ingress.ts';
import { KeypairSlots } from './keypair-slots.ts';
import { MessageBatch } from './message-batch.ts';
import { createRing } from './ring.ts';
import { createSharedMemory, SharedState } from './shared-state.ts';
import { AF_INET, encodePath, sockaddrLength } from './sockaddr.ts';
import { openSink, type UdpSockets } from './udp.ts';
import type { Configuration, WorkerOptions } from './worker-protocol.ts';

const DEVICE = 0;
const PEER = 0;
const INDEX = 1;
const MTU = 1420;
const MESSAGE_LENGTH = 16 + MTU + TAG_LENGTH;
const MSS = 1368;
const AF_UNIX = 1;
const SOCK_DGRAM = 2;
/** Enough for V8's optimizing compiler to take an interest; some 100 ms. */
const ROUNDS = 60;
const SMALL_PACKETS_A_ROUND = 30;
/** Whose loopback takes longer than this to bring a datagram is warmed up without it. */
const PATIENCE_MS = 50;

const V4_ADDRESSES = '0a0000010a000001';
const V6_ADDRESSES = 'fd000000000000000000000000000001'.repeat(2);
const VNET_TCP_V4 = 1;
const VNET_TCP_V6 = 4;
const LONGEST_PACKET = 65_536;

/** `create` builds the egress of the worker, here from options of its own. */
export const warmUpEgress = (
  options: WorkerOptions,
  create: (arena: Arena, options: WorkerOptions) => Egress,
  arenaLength: number,
): void =>
  inSandbox(options, (sandbox, inside) => {
    const arena = new Arena(arenaLength);
    const scratch = new Arena(LONGEST_PACKET);
    const egress = create(arena, sandbox);
    egress.configure();
    for (const packet of packets()) {
      scratch.bytes.set(packet);
      if (write(inside, scratch.address, packet.length) === packet.length) egress.turn();
    }
    scratch.unmap();
    arena.unmap();
  });

export const warmUpIngress = (
  options: WorkerOptions,
  create: (arena: Arena, options: WorkerOptions) => Ingress,
  arenaLength: number,
): void =>
  inSandbox(options, (sandbox, inside) => {
    const arena = new Arena(arenaLength);
    const ingress = create(arena, sandbox);
    ingress.configure();
    const sealer = new Sealer(sandbox);
    let hasLoopback = true;
    for (const packet of packets()) {
      const length = sealer.seal(packet);
      const start = monotonicNow();
      if (hasLoopback && sealer.send(length)) {
        ingress.turn();
        hasLoopback = monotonicNow() - start < PATIENCE_MS;
      } else ingress.inject(sealer.sealed(length), MESSAGE_LENGTH);
      sealer.drain(inside);
    }
    sealer.close();
    arena.unmap();
  });

/** As they would come from a TUN: bulk data of both families, and what small packets there are. */
function* packets(): Generator<Uint8Array> {
  const bulk = [tcpPacket(4, 20 * MSS), tcpPacket(6, 20 * (MSS - 20))];
  const small = [udpPacket(), echoRequest(), tcpPacket(4, 0), tcpPacket(6, 0)];
  for (let i = 0; i < ROUNDS; i++) {
    yield* bulk;
    for (let n = 0; n < SMALL_PACKETS_A_ROUND / small.length; n++) yield* small;
  }
}

/**
 * Options like the worker's own, with one device, one peer and one session that sends to itself. `inside`: the far end of what
 * stands for the TUN, of which a read brings one packet, too.
 */
const inSandbox = (options: WorkerOptions, work: (sandbox: WorkerOptions, inside: number) => void): void => {
  const sink = openSink(options.udp.offloads.coalescing);
  const [tun, inside] = openPair();
  const wakeFd = eventfd(0, 0);
  const { port1, port2 } = new MessageChannel();
  try {
    const memory = createSharedMemory(1, 4);
    const state = new SharedState(memory);
    state.initPeer(PEER, DEVICE);
    state.paths.setEndpoint(PEER, encodePath({ address: '127.0.0.1', port: sink.port, local: '127.0.0.1' }));
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
    const udp: UdpSockets = { ...options.udp, port: sink.port, v4: sink.fd, v6: -1 };
    const allowedIps = buildAllowedIpsTable(
      ['10.0.0.0/8', 'fd00::/8'].map((prefix) => ({ prefix: parsePrefix(prefix), value: PEER })),
    );
    const changes: Configuration[] = [
      { sequence: 1, change: { kind: 'add-device', device: DEVICE, fd: tun, mtu: MTU, offload: 'tcp+udp' } },
      { sequence: 2, change: { kind: 'set-allowed-ips', device: DEVICE, allowedIps } },
    ];
    for (const change of changes) port1.postMessage(change);
    const sandbox: WorkerOptions = {
      ...options,
      port: port2,
      memory,
      udp,
      wakeFd,
      counters: createCounterMemory(new Array(64).fill('')),
      events: createRing(options.events.entryLength, 4),
      extra: createRing(options.extra.entryLength, 4),
    };
    work(sandbox, inside);
  } finally {
    port1.close();
    for (const fd of [sink.fd, tun, inside, wakeFd]) close(fd);
  }
};

/** Two ends of a line that keeps packets apart, as a TUN does. */
const openPair = (): [number, number] => {
  const scratch = new Arena(8);
  socketpair(AF_UNIX, SOCK_DGRAM | O_NONBLOCK | O_CLOEXEC, 0, scratch.address);
  const pair: [number, number] = [scratch.view.getInt32(0, true), scratch.view.getInt32(4, true)];
  scratch.unmap();
  return pair;
};

/** Makes the datagrams that an egress would have sent. */
class Sealer {
  readonly #arena = new Arena(512 << 10);
  readonly #aead: Aead;
  readonly #segmenter: Segmenter;
  readonly #message: MessageBatch;
  readonly #udp: UdpSockets;
  readonly #key: number;
  readonly #from: number;
  readonly #to: number;
  readonly #out: number;
  #counter = 0;

  constructor({ aeadTier, udp }: WorkerOptions) {
    this.#udp = udp;
    this.#aead = createAead(this.#arena, aeadTier);
    this.#segmenter = new Segmenter(new PacketMemory(this.#arena.buffer));
    this.#message = new MessageBatch(this.#arena, 1, 1);
    this.#key = this.#arena.allocate(32);
    this.#from = this.#arena.allocate(LONGEST_PACKET + 1024) + 2 * HEADROOM;
    this.#to = this.#arena.allocate(4096) + HEADROOM;
    this.#out = this.#arena.allocate(LONGEST_PACKET);
  }

  /** Returns the length of all messages, which lie one after another as UDP GRO hands them over. */
  seal(packet: Uint8Array): number {
    const { bytes, view } = this.#arena;
    bytes.set(packet, this.#from);
    this.#segmenter.begin(this.#from, packet.length, MTU);
    let end = this.#out;
    while (this.#segmenter.next()) {
      const { offset, paddedLength } = this.#segmenter;
      this.#aead.seal(this.#key, this.#counter, offset, paddedLength, this.#to);
      const header = this.#to - 16;
      view.setUint32(header, 4, true);
      view.setUint32(header + 4, INDEX, true);
      view.setUint32(header + 8, this.#counter++, true);
      view.setUint32(header + 12, 0, true);
      const length = 16 + paddedLength + TAG_LENGTH;
      bytes.copyWithin(end, header, header + length);
      end += length;
    }
    return end - this.#out;
  }

  /** What was sealed last. Borrowed until the next. */
  sealed(length: number): Uint8Array {
    return this.#arena.bytes.subarray(this.#out, this.#out + length);
  }

  /** Sends what was sealed last to the socket that it is sent from. False: it cannot. */
  send(length: number): boolean {
    const isOne = this.#segmenter.count === 1;
    if (!isOne && !this.#udp.offloads.segmentation) return false;
    const message = this.#message;
    const path = encodePath({ address: '127.0.0.1', port: this.#udp.port });
    this.#arena.bytes.set(path, message.pathOffset(0));
    message.setNameLength(0, sockaddrLength(AF_INET));
    message.setPart(0, 0, this.#out, length);
    message.setPartCount(0, 1);
    message.setControl(0, isOne ? 0 : MESSAGE_LENGTH, 0);
    return sendmsg(this.#udp.v4, message.addressOf(0), MSG_DONTWAIT) === length;
  }

  /** Reads away what came out of the tunnel. */
  drain(inside: number): void {
    while (read(inside, this.#arena.address + this.#from, LONGEST_PACKET) > 0);
  }

  close(): void {
    this.#arena.unmap();
  }
}

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
  packet.writeUInt8(0x10, tcp + 13);
  return packet;
};

/** A virtio_net_hdr and an ICMP echo request, as ping sends it. Nobody looks at its checksum. */
const echoRequest = (): Uint8Array => {
  const packet = Buffer.alloc(10 + 84);
  writeIpHeader(packet, 4, 1, 84);
  packet.writeUInt8(8, 10 + 20);
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
