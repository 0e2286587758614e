// Outside to inside, on a thread of its own or in turns with egress (duplex.ts):
//
//   1. wait         poll the UDP sockets and the wake-up descriptor                       poller.ts
//   2. receive      many datagrams in one call, coalesced by the kernel (UDP_GRO)         #receive
//                   those of sparse flows first, which have sockets of their own           port-sharing.ts
//   3. sort         type 4 goes on, types 1 to 3 wait until the rest is done              #dispatch, handshake-intake.ts
//                   what is another worker's is handed over, and what is handed over comes in here    hand-over.ts
//   4. open         receiver index -> keypair -> tag; then the replay window              #open
//   5. account      activity, key confirmation, roaming                                   #account
//   6. check        IP length, that the source is one of exactly this peer's, and ECN     #admit
//   7. coalesce     what belongs together into super-packets                              wire/coalesce.ts
//   8. write        each to its network's TUN in one system call                          inside-writer.ts
//
// One file, though a long one: all steps work on the state of one batch. Whatever arrives, this goes on: what is wrong is
// dropped and counted. Nothing here allocates per packet.

import { randomInt } from 'node:crypto';
import { ECN_MASK, leaveTunnel, NOT_ECT } from '../../native-free/wire/ecn.ts';
import { IpHeader, setEcn } from '../../native-free/wire/ip.ts';
import {
  COOKIE_REPLY_LENGTH,
  COOKIE_REPLY_TYPE,
  INITIATION_LENGTH,
  INITIATION_TYPE,
  RESPONSE_LENGTH,
  RESPONSE_TYPE,
  TRANSPORT_COUNTER_OFFSET,
  TRANSPORT_HEADER_LENGTH,
  TRANSPORT_MINIMUM_LENGTH,
  TRANSPORT_RECEIVER_OFFSET,
  TRANSPORT_TYPE,
} from '../../native-free/wire/message.ts';
import { PacketMemory } from '../../native-free/wire/packet-memory.ts';
import { PROBE_ANSWER, pathProbeKind, pathProbeSequence } from '../../native-free/wire/path-probe.ts';
import { monotonicNow } from '../ffi/clock.ts';
import { MSG_DONTWAIT, recvmmsg } from '../ffi/libc.ts';
import type { Arena } from '../ffi/memory.ts';
import { type Aead, type AeadTier, HEADROOM, TAG_LENGTH, TAILROOM } from './aead.ts';
import type { Counters, IngressCounter } from './counters.ts';
import { DeviceTable, takeConfiguration } from './device-table.ts';
import type { EventSink } from './event-sink.ts';
import { HandOver, type HandOverMemory } from './hand-over.ts';
import { HandshakeIntake } from './handshake-intake.ts';
import { InsideWriter } from './inside-writer.ts';
import { KeyCache } from './key-cache.ts';
import { MessageBatch } from './message-batch.ts';
import type { Poller } from './poller.ts';
import { ProbeBudget } from './probe-budget.ts';
import { ReplayWindows } from './replay-windows.ts';
import type { Ring } from './ring.ts';
import { NO_SLOT, type SharedState, workerNumber } from './shared-state.ts';
import type { SocketPair, UdpSockets } from './udp.ts';
import type { Configuration, WorkerOptions } from './worker-protocol.ts';

/** Whitepaper section 6.1; counters past 2^53 (of 2^64) are refused. */
const REJECT_AFTER_TIME_MS = 180_000;
const REJECT_AFTER_COUNTER_HIGH = 0x20_0000;

/** Messages of up to 64 KB each, joined; with more of them, what is of a sparse flow waits for it. */
const BATCH = 4;
const LONGEST_RECEIVE = 65536;
const RECEIVE_ROOM = HEADROOM + LONGEST_RECEIVE + HEADROOM;
/** What receiving a message costs besides its bytes, in bytes: as much as a few kilobytes more. */
const COST_OF_MESSAGE = 4096;
/** So much, in bytes, by each socket, before looking whether there is something else to do. */
const COST_A_TURN = 512 << 10;

/** Where opened packets wait for the end of the batch: all that one batch can hold. */
const AREA = BATCH * (LONGEST_RECEIVE + 128 * 2 * HEADROOM);
/** Linux joins at most 128 datagrams (UDP_MAX_SEGMENTS). Should more come, the batch is written in several goes. */
const PACKETS = BATCH * 128;

/** The ingress worker that has the handshakes. */
const FIRST = 0;
/** Datagrams that others gave, in one go. */
const TAKEN_AT_ONCE = 512;
/** Waits of a millisecond for room with another worker. */
const GIVE_ATTEMPTS = 200;

/** How often a worker repeats that a peer's endpoint has moved. */
const MOVED_AGAIN_MS = 20;

export interface IngressParts {
  /** Of workers, from 0. */
  readonly pair: number;
  readonly arena: Arena;
  readonly aead: Aead;
  readonly state: SharedState;
  readonly counters: Counters<IngressCounter>;
  readonly udp: UdpSockets;
  readonly poller: Poller;
  readonly events: EventSink;
  readonly datagrams: Ring;
  readonly handOver: HandOverMemory;
  readonly port: WorkerOptions['port'];
}

export class Ingress {
  readonly #parts: IngressParts;
  readonly #number: number;
  /** The sockets in the order in which they are looked at, and how many of them are those of sparse flows. */
  readonly #sockets: readonly number[];
  readonly #sparseSockets: number;
  /** Of a receiver index, those that say which ingress worker it belongs to. */
  readonly #laneBits: number;
  readonly #handOver: HandOver;
  readonly #memory: PacketMemory;
  readonly #devices: DeviceTable;
  readonly #inside: InsideWriter;
  readonly #windows: ReplayWindows;
  readonly #intake: HandshakeIntake;
  readonly #key: KeyCache;
  readonly #ip = new IpHeader();
  readonly #batch: MessageBatch;
  readonly #receiveAt: number;
  readonly #area: number;
  /** By keypair slot: the generation whose window this is, and the one whose confirmation was reported. */
  readonly #windowOf: Int32Array;
  readonly #confirmed: Int32Array;
  readonly #movedAt: Float64Array;
  readonly #probes: ProbeBudget;
  #cursor: number;
  /** How many messages of the batch the kernel has written to since they were prepared. */
  #used = BATCH;
  #now = 0;
  /** Of what was received by the socket at hand. */
  #cost = 0;
  /** The ECN mark of the datagrams at hand. */
  #outerMark = NOT_ECT;

  // The session at hand: looked up once a batch, not once a packet.
  #index = 0;
  #keypair = NO_SLOT;
  #keyAt = 0;
  #isExpired = false;
  #peer = 0;
  #isInUse = false;
  /** Whether this message's source has been compared with the peer's endpoint. */
  #isSourceChecked = false;

  static readonly ARENA = BATCH * RECEIVE_ROOM + AREA + HandOver.ARENA + 64 * 1024;

  constructor(parts: IngressParts) {
    const { arena, state } = parts;
    this.#parts = parts;
    this.#number = workerNumber('ingress', parts.pair);
    this.#laneBits = state.pairs - 1;
    this.#handOver = new HandOver(arena, parts.handOver, parts.pair, HEADROOM, TAILROOM);
    this.#memory = new PacketMemory(arena.buffer, arena.alias);
    this.#devices = new DeviceTable(parts.pair, undefined);
    const writing = { arena, memory: this.#memory, devices: this.#devices, counters: parts.counters };
    this.#inside = new InsideWriter(writing, PACKETS, state.pairs);
    this.#windows = new ReplayWindows(state.maxKeypairs);
    const { counters, datagrams, events } = parts;
    const { bytes } = this.#memory;
    const seed = randomInt(2 ** 31);
    this.#intake = new HandshakeIntake(
      { bytes, devices: this.#devices, counters, datagrams, events, seed },
      PACKETS,
    );
    this.#windowOf = new Int32Array(state.maxKeypairs);
    this.#confirmed = new Int32Array(state.maxKeypairs);
    this.#movedAt = new Float64Array(state.maxPeers);
    this.#probes = new ProbeBudget(state.maxPeers);
    this.#key = new KeyCache(arena, state);
    this.#batch = new MessageBatch(arena, BATCH, 1);
    this.#receiveAt = arena.allocate(BATCH * RECEIVE_ROOM);
    for (let i = 0; i < BATCH; i++) {
      this.#batch.setPart(i, 0, this.#datagramAt(i), LONGEST_RECEIVE);
      this.#batch.setPartCount(i, 1);
    }
    this.#area = arena.allocate(AREA);
    this.#cursor = this.#area;
    const { udp } = parts;
    this.#sockets = socketsOfIngress(udp);
    this.#sparseSockets = udp.sparse === undefined ? 0 : existing(udp.sparse).length;
  }

  get aeadTier(): AeadTier {
    return this.#parts.aead.tier;
  }

  /** Until it is told to stop. */
  run(): void {
    const { state } = this.#parts;
    while (!state.stopped) this.turn();
    this.wipe();
  }

  /** Waits until there is something to do, or for so long, and does it. */
  turn(timeoutMs?: number): void {
    const { state, poller } = this.#parts;
    poller.wait(timeoutMs ?? this.patience);
    state.enter(this.#number);
    if (poller.takeWakeup()) {
      this.configure();
      this.wipeIfRetired();
    }
    this.receive();
    state.leave(this.#number);
    this.report();
  }

  /** How long it may wait, ms; undefined: as long as nothing comes. */
  get patience(): number | undefined {
    const { events } = this.#parts;
    return events.isWakePlanned ? events.patience(monotonicNow()) : undefined;
  }

  /** When it began on what it received last, ms. */
  get workedAt(): number {
    return this.#now;
  }

  /** Wakes main if there is a reason. */
  report(): void {
    const { events } = this.#parts;
    events.flush(events.isWakePlanned ? monotonicNow() : this.#now);
  }

  /**
   * Works on what has come by the sockets that are readable by the poller, a turn's worth by each. Returns the number of the device
   * to whose TUN it wrote last, or NO_SLOT.
   */
  receive(): number {
    const { poller } = this.#parts;
    for (let i = 0; i < this.#sockets.length; i++) if (poller.eventsAt(i) !== 0) this.#receive(i);
    if (this.#laneBits !== 0) {
      this.#begin();
      this.#exchange();
    }
    return this.#inside.takeLastWritten();
  }

  /** By socket `i`. Between batches of bulk it looks for what may overtake: never more than that, so bulk goes on, too. */
  #receive(i: number): void {
    const fd = this.#sockets[i] ?? -1;
    this.#cost = 0;
    while (this.#receiveBatch(fd) && this.#cost < COST_A_TURN)
      if (i >= this.#sparseSockets)
        for (let sparse = 0; sparse < this.#sparseSockets; sparse++)
          this.#receiveBatch(this.#sockets[sparse] ?? -1);
  }

  /** Whether there may be more. */
  #receiveBatch(fd: number): boolean {
    const batch = this.#batch;
    for (let i = 0; i < this.#used; i++) batch.prepareReceive(i);
    const received = recvmmsg(fd, batch.addressOf(0), BATCH, MSG_DONTWAIT, 0);
    this.#used = Math.max(received, 0);
    if (received <= 0) return false;
    this.#begin();
    for (let i = 0; i < received; i++) {
      this.#cost += batch.lengthOf(i) + COST_OF_MESSAGE;
      batch.readControl(i);
      this.#outerMark = batch.trafficClass & ECN_MASK;
      this.#cut(i, batch.lengthOf(i), batch.segmentSize);
    }
    this.#write();
    this.#intake.work(this.#now);
    if (this.#laneBits !== 0) this.#exchange();
    return received === BATCH;
  }

  /** Treats `datagrams`, all of `size` bytes but the last, as if they had been received. Borrows them. */
  inject(datagrams: Uint8Array, size: number): void {
    this.#memory.bytes.set(datagrams, this.#datagramAt(0));
    this.#begin();
    this.#cut(0, datagrams.length, size);
    this.#write();
    this.#intake.work(this.#now);
  }

  #begin(): void {
    this.#now = monotonicNow();
    this.#keypair = NO_SLOT;
    this.#outerMark = NOT_ECT;
  }

  /** Takes message `i` apart into the datagrams that the kernel joined. */
  #cut(i: number, length: number, segmentSize: number): void {
    const size = segmentSize > 0 ? segmentSize : Math.max(length, 1);
    const start = this.#datagramAt(i);
    const source = this.#batch.pathOffset(i);
    this.#isSourceChecked = false;
    for (let at = 0; at < length; at += size) this.#dispatch(start + at, Math.min(size, length - at), source);
  }

  /** `at` and `source` (a path) are offsets in the arena. */
  #dispatch(at: number, length: number, source: number): void {
    const { counters } = this.#parts;
    const type = length < TRANSPORT_MINIMUM_LENGTH ? 0 : this.#memory.view.getUint32(at, true);
    if (type === TRANSPORT_TYPE) {
      if (this.#laneBits === 0 || this.#laneOf(at) === this.#parts.pair) this.#open(at, length, source);
      else this.#give(at, length, source);
    } else if (
      (type === INITIATION_TYPE && length === INITIATION_LENGTH) ||
      (type === RESPONSE_TYPE && length === RESPONSE_LENGTH) ||
      (type === COOKIE_REPLY_TYPE && length === COOKIE_REPLY_LENGTH)
    ) {
      if (this.#parts.pair === FIRST) this.#intake.keep(at, length, source);
      else this.#giveHandshake(at, length, source);
    } else counters.add(counters.at['dropped:malformed'], 1);
  }

  // --- among several ingress workers

  /** Whose transport data it is: the replay window is with one worker. */
  #laneOf(at: number): number {
    return this.#memory.view.getUint8(at + TRANSPORT_RECEIVER_OFFSET) & this.#laneBits;
  }

  /**
   * Waits for room, and takes meanwhile what others wait to give. Only who does not work at all is given up on. What belongs to no
   * session ends here: who can guess no receiver index makes no worker wait for another.
   */
  #give(at: number, length: number, source: number): void {
    const { counters, state } = this.#parts;
    const handOver = this.#handOver;
    if (state.findKeypair(this.#memory.view.getInt32(at + TRANSPORT_RECEIVER_OFFSET, true)) === NO_SLOT) {
      counters.add(counters.at['dropped:unknown-index'], 1);
      return;
    }
    const to = this.#laneOf(at);
    for (let attempt = 0; attempt < GIVE_ATTEMPTS && !state.stopped; attempt++) {
      if (handOver.give(to, at, length, source, this.#outerMark)) {
        counters.add(counters.at['handed-over'], 1);
        return;
      }
      this.#takeOver(TAKEN_AT_ONCE);
      handOver.flush();
      handOver.waitFor(to);
    }
    counters.add(counters.at['dropped:queue-full'], 1);
  }

  /** To the first worker, who alone knows how many come. Anyone can send them, so none is waited for. */
  #giveHandshake(at: number, length: number, source: number): void {
    const { counters } = this.#parts;
    const isGiven = this.#handOver.give(FIRST, at, length, source, this.#outerMark);
    counters.add(counters.at[isGiven ? 'handed-over' : 'dropped:queue-full'], 1);
  }

  /** Wakes who was given something, and works on what was given to this worker: neither waits for all that there is to receive. */
  #exchange(): void {
    const handOver = this.#handOver;
    handOver.flush();
    const taken = this.#takeOver(TAKEN_AT_ONCE);
    if (taken === TAKEN_AT_ONCE) handOver.comeBack();
    if (taken > 0) this.#write();
  }

  /** Returns how many it took, at most `most`. Leaves the batch at hand as it is. */
  #takeOver(most: number): number {
    const handOver = this.#handOver;
    const [outerMark, isSourceChecked] = [this.#outerMark, this.#isSourceChecked];
    let taken = 0;
    while (taken < most && handOver.take()) {
      this.#outerMark = handOver.trafficClass;
      this.#isSourceChecked = false;
      this.#dispatch(handOver.at, handOver.length, handOver.path);
      // A handshake must not lie there when the next is taken.
      this.#intake.work(this.#now);
      taken += 1;
    }
    this.#outerMark = outerMark;
    this.#isSourceChecked = isSourceChecked;
    return taken;
  }

  // --- one datagram

  #open(at: number, length: number, source: number): void {
    const { counters, aead } = this.#parts;
    const { view } = this.#memory;
    const index = view.getInt32(at + TRANSPORT_RECEIVER_OFFSET, true);
    if ((index !== this.#index || this.#keypair === NO_SLOT) && !this.#select(index)) {
      counters.add(counters.at['dropped:unknown-index'], 1);
      return;
    }
    const high = view.getUint32(at + TRANSPORT_COUNTER_OFFSET + 4, true);
    if (this.#isExpired || high >= REJECT_AFTER_COUNTER_HIGH) {
      counters.add(counters.at['dropped:expired'], 1);
      return;
    }
    const counter = view.getUint32(at + TRANSPORT_COUNTER_OFFSET, true) + high * 0x1_0000_0000;
    const sealedLength = length - TRANSPORT_HEADER_LENGTH - TAG_LENGTH;
    const to = this.#place(sealedLength);
    if (!aead.open(this.#keyAt, counter, at + TRANSPORT_HEADER_LENGTH, sealedLength, to)) {
      counters.add(counters.at['dropped:forged'], 1);
      return;
    }
    if (!this.#windows.accept(this.#keypair, counter)) {
      counters.add(counters.at['dropped:replayed'], 1);
      return;
    }
    this.#account(length, source);
    if (sealedLength > 0) this.#admit(to, sealedLength);
  }

  /** Makes the keypair that listens on this index the one at hand, for the rest of the batch at most. */
  #select(index: number): boolean {
    const { state } = this.#parts;
    const keypair = state.findKeypair(index);
    this.#index = index;
    this.#keypair = keypair;
    if (keypair === NO_SLOT) return false;
    this.#keyAt = this.#key.receiveKey(keypair);
    this.#isExpired = this.#now - state.createdAtOf(keypair) >= REJECT_AFTER_TIME_MS;
    this.#peer = state.peerOf(keypair);
    this.#isInUse = state.keypairInUse(this.#peer) === keypair;
    this.#isSourceChecked = false;
    const generation = state.generationOf(keypair);
    if (generation !== 0 && this.#windowOf[keypair] !== generation) {
      this.#windowOf[keypair] = generation;
      this.#windows.reset(keypair);
    }
    return true;
  }

  #account(length: number, source: number): void {
    const { state, counters } = this.#parts;
    state.countReceived(this.#peer, length, this.#now, length > TRANSPORT_MINIMUM_LENGTH);
    counters.add(counters.at.packets, 1);
    if (!this.#isInUse) this.#confirm(this.#keypair, this.#peer);
    if (this.#isSourceChecked) return;
    this.#isSourceChecked = true;
    this.#checkSource(this.#peer, source);
  }

  /** Once a keypair: whether it means anything is the device's to know. */
  #confirm(keypair: number, peer: number): void {
    const { state, events } = this.#parts;
    const generation = state.generationOf(keypair);
    if (this.#confirmed[keypair] === generation) return;
    state.confirmKeypair(peer, keypair);
    if (events.keypairConfirmed(peer, state.localIndexOf(keypair))) this.#confirmed[keypair] = generation;
  }

  #checkSource(peer: number, source: number): void {
    const { state, events } = this.#parts;
    const { view } = this.#memory;
    const { paths } = state;
    if (!paths.isSentBy(peer, view, source)) paths.setHeard(peer, view, source);
    if (paths.hasEndpoint(peer, view, source)) return;
    if (this.#now - (this.#movedAt[peer] ?? 0) <= MOVED_AGAIN_MS) return;
    if (events.endpointMoved(peer, this.#memory.bytes, source)) this.#movedAt[peer] = this.#now;
  }

  #admit(at: number, length: number): void {
    const { state, counters } = this.#parts;
    const device = this.#devices.get(state.deviceOf(this.#peer));
    const ip = this.#ip;
    if (device === undefined || ip.parse(this.#memory, at, length) !== undefined) {
      if (!this.#takeProbe(at, length)) counters.add(counters.at['dropped:bad-inside'], 1);
      return;
    }
    if (device.peerOf(this.#memory.bytes, ip.source, ip.addressLength) !== this.#peer) {
      counters.add(counters.at['dropped:wrong-source'], 1);
      return;
    }
    if (this.#outerMark !== NOT_ECT && !this.#mark(ip)) {
      counters.add(counters.at['dropped:congested'], 1);
      return;
    }
    if (!this.#inside.push(device, ip)) {
      this.#write();
      this.#inside.push(device, ip);
    }
    this.#keep(at, length);
  }

  /** What is no IP packet may ask, or answer, how large a datagram gets through. */
  #takeProbe(at: number, length: number): boolean {
    const kind = pathProbeKind(this.#memory, at, length);
    if (kind === 0 || !this.#probes.take(this.#peer, this.#now)) return false;
    const sequence = pathProbeSequence(this.#memory, at);
    return this.#parts.events.probe(this.#peer, sequence, kind === PROBE_ANSWER);
  }

  /** Takes over what routers on the way said of congestion; false: the packet must go, since its sender is deaf to it. */
  #mark(ip: IpHeader): boolean {
    const inner = ip.trafficClass & ECN_MASK;
    const mark = leaveTunnel(inner, this.#outerMark);
    if (mark < 0) return false;
    if (mark !== inner) setEcn(this.#memory, ip, mark);
    return true;
  }

  // --- the area of opened packets

  /** Where to open the next packet to. It is only kept if `keep` follows. */
  #place(length: number): number {
    if (this.#cursor + HEADROOM + length + TAILROOM > this.#area + AREA) this.#write();
    return this.#cursor + HEADROOM;
  }

  #keep(at: number, length: number): void {
    this.#cursor = (at + length + TAILROOM + 63) & ~63;
  }

  /** Writes out the batch. */
  #write(): void {
    this.#cursor = this.#area;
    this.#inside.write();
  }

  /** Takes over configuration that main has sent. */
  configure(): void {
    const { port, state, events } = this.#parts;
    takeConfiguration(port, (configuration) => {
      this.apply(configuration);
      state.setSeen(this.#number, configuration.sequence);
      events.wakeLater();
    });
  }

  apply(configuration: Configuration): void {
    this.#devices.apply(configuration);
    this.#inside.match();
  }

  /** Wipes its copy of a key that main has retired. */
  wipeIfRetired(): void {
    this.#key.wipeIfRetired();
  }

  /** Wipes its copies of keys, at the end. */
  wipe(): void {
    this.#key.wipe();
  }

  #datagramAt(i: number): number {
    return this.#receiveAt + i * RECEIVE_ROOM + HEADROOM;
  }
}

const existing = ({ v4, v6 }: SocketPair): number[] => (v6 < 0 ? [v4] : [v4, v6]);

/** In the order in which they are looked at: IPv4's and IPv6's, those of sparse flows before the others. */
export const socketsOfIngress = (udp: UdpSockets): number[] => [
  ...(udp.sparse === undefined ? [] : existing(udp.sparse)),
  ...existing(udp),
];
