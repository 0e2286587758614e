// Inside to outside, on a thread of its own:
//
//   1. wait        poll the TUNs and the wake-up descriptor                               poller.ts
//   2. read        one packet or super-packet, behind its virtio_net_hdr                  #readTun
//   3. look up     the peer whose allowed IPs hold the destination, or say so             #forward
//   4. stage       if no keypair may be used, and ask for a handshake                     #stage
//   5. cut, seal   each segment in place of the last, into the outbox                     #sealSegments
//   6. send        each run of equal messages to one peer in one system call              outbox.ts
//
// Nothing here allocates per packet, but staging.

import { receiveMessageOnPort } from 'node:worker_threads';
import { ECN_MASK, enterTunnel, NOT_ECT } from '../../native-free/wire/ecn.ts';
import { flowHash } from '../../native-free/wire/flow-hash.ts';
import { mayBeCut } from '../../native-free/wire/icmp.ts';
import { TRANSPORT_HEADER_LENGTH } from '../../native-free/wire/message.ts';
import { PacketMemory } from '../../native-free/wire/packet-memory.ts';
import { PATH_PROBE_LENGTH, PROBE, PROBE_ANSWER, writePathProbe } from '../../native-free/wire/path-probe.ts';
import { Segmenter } from '../../native-free/wire/segment.ts';
import { LOW_LATENCY_CLASS, SparseFlows } from '../../native-free/wire/sparse-flows.ts';
import { VNET_GSO_NONE, vnetGsoType, writePlainVnetHeader } from '../../native-free/wire/virtio.ts';
import { monotonicNow } from '../ffi/clock.ts';
import { EAGAIN, EINTR, errno, POLLIN, read } from '../ffi/libc.ts';
import type { Arena } from '../ffi/memory.ts';
import { type Aead, type AeadTier, HEADROOM, TAG_LENGTH } from './aead.ts';
import type { Counters, EgressCounter } from './counters.ts';
import { DeviceTable, type WorkerDevice } from './device-table.ts';
import type { EventSink } from './event-sink.ts';
import { KeyCache } from './key-cache.ts';
import type { Outbox } from './outbox.ts';
import type { Poller } from './poller.ts';
import type { Ring } from './ring.ts';
import { NO_SLOT, type SharedState, workerNumber } from './shared-state.ts';
import { Staging } from './staging.ts';
import { Unreachable } from './unreachable.ts';
import {
  COMMAND_ANSWER_PROBE,
  COMMAND_DROP_STAGED,
  COMMAND_PEER,
  COMMAND_SEND_KEEPALIVE,
  COMMAND_SEND_PROBE,
  COMMAND_SEND_STAGED,
  COMMAND_SEQUENCE,
  COMMAND_SIZE,
  type WorkerOptions,
} from './worker-protocol.ts';

/**
 * Whitepaper section 6.1. Counters stop before 2^32 instead of 2^64 - 2^13 - 1: no session gets there in its 180 s. Before
 * they would begin anew all workers may look at once, and each seal a super-packet of as many segments as there can be.
 */
const REJECT_AFTER_TIME_MS = 180_000;
const REJECT_AFTER_MESSAGES = 2 ** 32 - 2 ** 20;
/**
 * Counters that are taken at once. What other workers seal meanwhile overtakes them on the way: all workers' blocks together
 * must be far less than what the receiver's window holds (8128).
 */
const COUNTERS_AT_ONCE = 256;

/** What a read can bring: a virtio_net_hdr and an IP packet of 64 KB; and room for its padding. */
const LONGEST_READ = 10 + 65535;
const READ_ROOM = 65536 + 128;
/** Where a read goes: headroom for sealing, and the IP header behind ten bytes at a multiple of 16. */
const READ_OFFSET = 2 * HEADROOM - 10;

/** A TUN with much to read must not starve the others. */
const READS_A_TURN = 64;
/** Nor may one whose super-packets fall into many small messages. */
const MESSAGES_A_TURN = 4096;
/** How often a worker repeats that a peer needs a handshake. */
const ASK_AGAIN_MS = 250;

export interface EgressParts {
  /** Of workers, from 0. */
  readonly pair: number;
  readonly arena: Arena;
  readonly aead: Aead;
  readonly state: SharedState;
  readonly counters: Counters<EgressCounter>;
  readonly outbox: Outbox;
  readonly poller: Poller;
  readonly events: EventSink;
  readonly commands: Ring;
  /** Whether messages of sparse flows are marked, so that they may overtake where they arrive. */
  readonly marksSparse: boolean;
  readonly port: WorkerOptions['port'];
}

export class Egress {
  readonly #parts: EgressParts;
  readonly #number: number;
  readonly #segmenter: Segmenter;
  readonly #devices: DeviceTable;
  readonly #staging: Staging;
  readonly #unreachable: Unreachable;
  readonly #key: KeyCache;
  readonly #sparseFlows = new SparseFlows();
  readonly #askedAt: Float64Array;
  readonly #memory: PacketMemory;
  readonly #readAt: number;
  /** The last turn of a TUN brought one packet. */
  #isSparse = true;
  #now = 0;

  /** Bytes an arena must have for this, besides the outbox's. */
  static readonly ARENA = READ_ROOM + Unreachable.ARENA + 8192;

  constructor(parts: EgressParts) {
    const { arena, state } = parts;
    this.#parts = parts;
    this.#number = workerNumber('egress', parts.pair);
    this.#staging = new Staging(state.pairs);
    this.#memory = new PacketMemory(arena.buffer, arena.alias);
    this.#segmenter = new Segmenter(this.#memory);
    this.#devices = new DeviceTable(parts.pair, parts.poller);
    this.#unreachable = new Unreachable(arena, this.#memory);
    this.#key = new KeyCache(arena, state);
    this.#askedAt = new Float64Array(state.maxPeers);
    this.#readAt = arena.allocate(READ_ROOM) + READ_OFFSET;
  }

  get aeadTier(): AeadTier {
    return this.#parts.aead.tier;
  }

  /** Until it is told to stop. */
  run(): void {
    const { state } = this.#parts;
    while (!state.stopped) this.turn();
    this.#key.wipe();
  }

  /** Waits until there is something to do, or for so long, and does it. */
  turn(timeoutMs?: number): void {
    const { state, poller, events } = this.#parts;
    poller.wait(timeoutMs);
    state.enter(this.#number);
    this.#work();
    state.leave(this.#number);
    events.flush();
  }

  #work(): void {
    this.#now = monotonicNow();
    if (this.#parts.poller.takeWakeup()) {
      this.configure();
      this.#obey();
      this.#key.wipeIfRetired();
    }
    for (const device of this.#devices.all) {
      const events = this.#parts.poller.eventsAt(device.position);
      if (events === POLLIN) this.#readTun(device);
      else if (events !== 0) this.#lose(device);
    }
    this.#parts.outbox.flush();
  }

  #readTun(device: WorkerDevice): void {
    const { arena } = this.#parts;
    let messages = 0;
    for (let i = 0; i < READS_A_TURN && messages < MESSAGES_A_TURN; i++) {
      const length = read(device.fd, arena.address + this.#readAt, LONGEST_READ);
      if (length > 0) {
        this.#receive(device, length);
        messages += this.#segmenter.count;
        // Where packets come one by one, none waits until it is known that it was alone.
        if (i === 0 && this.#isSparse) this.#parts.outbox.flush();
        continue;
      }
      const code = length < 0 ? errno() : 0;
      if (code === EINTR) continue;
      if (code !== EAGAIN) this.#lose(device);
      this.#isSparse = i <= 1;
      return;
    }
    this.#isSparse = false;
  }

  /** Everything about a packet that lies at the place where reads go; `length` counts its virtio_net_hdr. */
  #receive(device: WorkerDevice, length: number): void {
    this.#forward(device, length);
    if (this.#parts.outbox.isWorthSending) this.#parts.outbox.flush();
  }

  #forward(device: WorkerDevice, length: number): void {
    const { counters } = this.#parts;
    const { at } = counters;
    const segmenter = this.#segmenter;
    if (segmenter.begin(this.#readAt, length, device.mtu) !== undefined) {
      counters.add(at['dropped:malformed'], 1);
      return;
    }
    const { ip } = segmenter;
    const peer = device.peerOf(this.#memory.bytes, ip.destination, ip.addressLength);
    if (peer === NO_SLOT) {
      counters.add(at['dropped:no-peer'], segmenter.count);
      this.#tellUnreachable(device);
      return;
    }
    if (!this.#parts.state.paths.hasAny(peer)) {
      counters.add(at['dropped:no-endpoint'], segmenter.count);
      this.#tellUnreachable(device);
      return;
    }
    if (
      segmenter.stridePlaintext > this.#parts.state.longestPlaintext(peer) &&
      this.#refuseTooBig(device, peer)
    )
      return;
    const keypair = this.#usableKeypair(peer, segmenter.count);
    if (keypair === NO_SLOT) this.#stage(device, peer, length);
    else this.#sealSegments(peer, keypair);
  }

  /** The way there carries less. Its sender is told, unless it must be carried all the same: then false. */
  #refuseTooBig(device: WorkerDevice, peer: number): boolean {
    const { counters, state } = this.#parts;
    const { ip, count, stridePlaintext } = this.#segmenter;
    if (mayBeCut(this.#memory, ip, stridePlaintext)) return false;
    counters.add(counters.at['dropped:too-big'], count);
    const isTold = this.#unreachable.tellTooBig(device, ip, state.longestPlaintext(peer), this.#now);
    if (isTold) counters.add(counters.at['too-bigs'], 1);
    return true;
  }

  /** About the packet at hand. */
  #tellUnreachable(device: WorkerDevice): void {
    const { counters } = this.#parts;
    const isTold = this.#unreachable.tell(device, this.#segmenter.ip, this.#now);
    if (isTold) counters.add(counters.at.unreachables, 1);
  }

  /** The peer's keypair, unless it is too old or has not enough counters left. */
  #usableKeypair(peer: number, messages: number): number {
    const { state } = this.#parts;
    const slot = state.keypairToSealWith(peer);
    if (slot === NO_SLOT) return NO_SLOT;
    if (this.#now - state.createdAtOf(slot) >= REJECT_AFTER_TIME_MS) return NO_SLOT;
    return state.sendCounterOf(slot) + messages <= REJECT_AFTER_MESSAGES ? slot : NO_SLOT;
  }

  #stage(device: WorkerDevice, peer: number, length: number): void {
    const { counters, events } = this.#parts;
    const { view, bytes } = this.#memory;
    // The segmenter has completed a plain packet's checksum already: it must not be done twice.
    if (vnetGsoType(view, this.#readAt) === VNET_GSO_NONE) writePlainVnetHeader(view, this.#readAt);
    const copy = bytes.slice(this.#readAt, this.#readAt + length);
    const packets = this.#segmenter.count;
    const dropped = this.#staging.add(peer, { bytes: copy, device: device.device, packets });
    if (dropped > 0) counters.add(counters.at['dropped:staged-overflow'], dropped);
    if (this.#now - (this.#askedAt[peer] ?? 0) < ASK_AGAIN_MS) return;
    if (events.handshakeNeeded(peer)) this.#askedAt[peer] = this.#now;
  }

  #sealSegments(peer: number, keypair: number): void {
    const { aead, state, counters, outbox, pair } = this.#parts;
    const segmenter = this.#segmenter;
    const key = this.#key.sendKey(keypair);
    const remoteIndex = state.remoteIndexOf(keypair);
    const trafficClass = enterTunnel(segmenter.ip.trafficClass & ECN_MASK) | this.#dscp();
    let left = segmenter.count;
    let taken = 0;
    let counter = 0;
    let bytes = 0;
    while (segmenter.next()) {
      if (taken === 0) {
        taken = Math.min(left, COUNTERS_AT_ONCE);
        left -= taken;
        counter = state.takeCounters(keypair, taken);
      }
      const length = segmenter.paddedLength;
      const to = outbox.place(length);
      aead.seal(key, counter, segmenter.offset, length, to);
      outbox.add(peer, remoteIndex, counter, length, trafficClass);
      counter += 1;
      taken -= 1;
      bytes += length;
    }
    const { count } = segmenter;
    state.countSent(pair, peer, bytes + count * (TRANSPORT_HEADER_LENGTH + TAG_LENGTH), this.#now, true);
    counters.add(counters.at.packets, count);
    if (count > 1) counters.add(counters.at['super-packets'], 1);
  }

  /** Of the messages that carry the packet at hand, where it stands in the outer header. */
  #dscp(): number {
    if (!this.#parts.marksSparse) return 0;
    const { ip, count, stridePlaintext } = this.#segmenter;
    const hash = flowHash(this.#memory.view, ip.offset);
    return this.#sparseFlows.take(hash, count * stridePlaintext, this.#now) ? LOW_LATENCY_CLASS : 0;
  }

  // --- what main asks for

  /** Takes over configuration that main has sent. */
  configure(): void {
    const { port, state, events } = this.#parts;
    for (let message = receiveMessageOnPort(port); message; message = receiveMessageOnPort(port)) {
      state.setSeen(this.#number, this.#devices.apply(message.message));
      events.wakeLater();
    }
  }

  #obey(): void {
    const { commands } = this.#parts;
    for (let entry = commands.peek(); entry >= 0; entry = commands.peek()) {
      const kind = commands.view.getUint32(entry, true);
      const peer = commands.view.getInt32(entry + COMMAND_PEER, true);
      const sequence = commands.view.getUint32(entry + COMMAND_SEQUENCE, true);
      const size = commands.view.getUint32(entry + COMMAND_SIZE, true);
      commands.release();
      if (kind === COMMAND_SEND_KEEPALIVE) this.#sendKeepalive(peer);
      else if (kind === COMMAND_SEND_STAGED) this.#sendStaged(peer);
      else if (kind === COMMAND_DROP_STAGED) this.#dropStaged(peer);
      else if (kind === COMMAND_SEND_PROBE) this.#sendProbe(peer, PROBE, sequence, size);
      else if (kind === COMMAND_ANSWER_PROBE)
        this.#sendProbe(peer, PROBE_ANSWER, sequence, PATH_PROBE_LENGTH);
    }
  }

  #sendKeepalive(peer: number): void {
    const { aead, state, outbox, pair } = this.#parts;
    const keypair = this.#usableKeypair(peer, 1);
    if (keypair === NO_SLOT || !state.paths.hasAny(peer)) return;
    const counter = state.takeCounters(keypair, 1);
    const to = outbox.place(0);
    aead.seal(this.#key.sendKey(keypair), counter, this.#readAt, 0, to);
    outbox.add(peer, state.remoteIndexOf(keypair), counter, 0, NOT_ECT);
    state.countSent(pair, peer, TRANSPORT_HEADER_LENGTH + TAG_LENGTH, this.#now, false);
  }

  /** Of a path's MTU. It is no data: nobody is asked to answer it by more than its answer. */
  #sendProbe(peer: number, kind: number, sequence: number, length: number): void {
    const { aead, state, outbox, pair } = this.#parts;
    const keypair = this.#usableKeypair(peer, 1);
    if (keypair === NO_SLOT || !state.paths.hasAny(peer)) return;
    const counter = state.takeCounters(keypair, 1);
    // Where reads go: there is none under way.
    writePathProbe(this.#memory, this.#readAt, length, kind, sequence);
    outbox.beginProbe();
    const to = outbox.place(length);
    aead.seal(this.#key.sendKey(keypair), counter, this.#readAt, length, to);
    outbox.add(peer, state.remoteIndexOf(keypair), counter, length, NOT_ECT);
    outbox.endProbe();
    state.countSent(pair, peer, length + TRANSPORT_HEADER_LENGTH + TAG_LENGTH, this.#now, false);
  }

  #sendStaged(peer: number): void {
    for (const { device, bytes } of this.#staging.take(peer)) {
      const target = this.#devices.get(device);
      if (target === undefined) continue;
      this.#memory.bytes.set(bytes, this.#readAt);
      this.#receive(target, bytes.length);
    }
  }

  #dropStaged(peer: number): void {
    const { counters } = this.#parts;
    for (const { packets } of this.#staging.take(peer))
      counters.add(counters.at['dropped:given-up'], packets);
    this.#askedAt[peer] = 0;
  }

  /** The TUN is gone, most likely with its namespace: no more polling it, or this thread would spin. */
  #lose(device: WorkerDevice): void {
    this.#devices.ignore(device);
    this.#parts.events.deviceLost(device.device);
  }
}
