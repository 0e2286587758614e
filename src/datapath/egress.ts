// Inside to outside, on a thread of its own or in turns with ingress (duplex.ts):
//
//   1. wait        poll the TUNs and the wake-up descriptor                               poller.ts
//   2. read ahead  packets or super-packets, each behind its virtio_net_hdr               #readAhead
//   3. in line     bulk waits, what belongs to a sparse flow passes it                    backlog.ts
//   4. look up     the peer whose allowed IPs hold the destination, or say so             #forward
//   5. stage       if no keypair may be used, and ask for a handshake                     #stage
//   6. cut, seal   each segment in place of the last, into the outbox                     sealer.ts
//   7. send        each run of equal messages to one peer in one system call              outbox.ts
//
// Nothing here allocates per packet, but staging.

import { flowHash } from '../../native-free/wire/flow-hash.ts';
import { mayBeCut } from '../../native-free/wire/icmp.ts';
import { PacketMemory } from '../../native-free/wire/packet-memory.ts';
import { PATH_PROBE_LENGTH, PROBE, PROBE_ANSWER } from '../../native-free/wire/path-probe.ts';
import { Segmenter } from '../../native-free/wire/segment.ts';
import { SparseFlows } from '../../native-free/wire/sparse-flows.ts';
import {
  VNET_GSO_NONE,
  VNET_HEADER_LENGTH,
  vnetGsoType,
  writePlainVnetHeader,
} from '../../native-free/wire/virtio.ts';
import { monotonicNow } from '../ffi/clock.ts';
import { POLLIN } from '../ffi/libc.ts';
import type { AeadTier } from './aead.ts';
import { Backlog } from './backlog.ts';
import { DeviceTable, takeConfiguration, type WorkerDevice } from './device-table.ts';
import type { EventSink } from './event-sink.ts';
import type { Poller } from './poller.ts';
import type { Ring } from './ring.ts';
import { Sealer, type SealerParts } from './sealer.ts';
import { NO_SLOT, workerNumber } from './shared-state.ts';
import { Staging } from './staging.ts';
import { TunReader } from './tun-reader.ts';
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
  type Configuration,
  MAX_DEVICES,
  type WorkerOptions,
} from './worker-protocol.ts';

/** Bytes that are read ahead at once, and sealed before the next look: two super-packets in, one out. */
const BYTES_AHEAD = 128 << 10;
const BYTES_SEALED = BYTES_AHEAD / 2;
/** What reading a packet costs besides its bytes, in bytes. */
const COST_OF_READ = 4096;
/** So much, in bytes, and what main asks for and other TUNs are looked at. */
const COST_A_TURN = 4 << 20;
/** How often a worker repeats that a peer needs a handshake. */
const ASK_AGAIN_MS = 250;

export interface EgressParts extends SealerParts {
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
  readonly #sealer: Sealer;
  readonly #sparseFlows = new SparseFlows();
  readonly #askedAt: Float64Array;
  readonly #memory: PacketMemory;
  readonly #backlog: Backlog;
  readonly #tuns: TunReader;
  /** Where the packet at hand is. */
  #readAt: number;
  /** It overtakes others on its way. */
  #isSparse = false;
  /** The last turn brought one packet. */
  #isLone = true;
  /** In this turn. */
  #reads = 0;
  #sent = 0;
  #cost = 0;
  /** The last turn that read brought anything. */
  #hadSome = true;
  #now = 0;

  /** Bytes an arena must have for this, besides the outbox's. */
  static readonly ARENA = Backlog.ARENA + Unreachable.ARENA + 8192;

  constructor(parts: EgressParts) {
    const { arena, state } = parts;
    this.#parts = parts;
    this.#number = workerNumber('egress', parts.pair);
    this.#staging = new Staging(state.pairs);
    this.#memory = new PacketMemory(arena.buffer, arena.alias);
    this.#segmenter = new Segmenter(this.#memory);
    this.#devices = new DeviceTable(parts.pair, parts.poller);
    this.#unreachable = new Unreachable(arena, this.#memory);
    this.#sealer = new Sealer(parts, this.#memory);
    this.#askedAt = new Float64Array(state.maxPeers);
    this.#backlog = new Backlog(arena);
    this.#readAt = this.#backlog.free;
    this.#tuns = new TunReader(arena.address, MAX_DEVICES, (device) => this.#lose(device));
  }

  get aeadTier(): AeadTier {
    return this.#sealer.aeadTier;
  }

  /** Until it is told to stop. */
  run(): void {
    const { state, poller } = this.#parts;
    while (!state.stopped) this.turn();
    this.wipe();
    poller.close();
  }

  /** Waits until there is something to do, or for so long, and does it. */
  turn(timeoutMs?: number): void {
    const { state, poller, events } = this.#parts;
    poller.wait(this.isBehind ? 0 : timeoutMs);
    state.enter(this.#number);
    if (poller.takeWakeup()) {
      this.settle();
      this.configure();
      this.obey();
    }
    if (this.look()) this.forward(COST_A_TURN);
    state.leave(this.#number);
    events.flush();
  }

  /** It has read what it has not sent yet: it must not wait. */
  get isBehind(): boolean {
    return !this.#backlog.isEmpty;
  }

  /** What was read before goes as things are, before they change. */
  settle(): void {
    this.#now = monotonicNow();
    while (!this.#backlog.isEmpty) this.#forwardOldest();
  }

  /** The last turn brought one packet, and nothing waits. */
  get isIdle(): boolean {
    return this.#isLone && this.#backlog.isEmpty;
  }

  /** When it last looked at the clock, for something to do, ms. */
  get workedAt(): number {
    return this.#now;
  }

  /** The last time it forwarded, it sent what had come by one read, and nothing waits. */
  get hasSentOne(): boolean {
    return this.#sent === 1 && this.#backlog.isEmpty;
  }

  /** Forwards what the TUNs have that it saw, and what waits, at a cost of about so many bytes. */
  forward(cost: number): void {
    this.#now = monotonicNow();
    this.#forwardAll(cost);
    this.#parts.outbox.flush();
  }

  /**
   * Sees which TUNs are readable by the poller; whether there is anything to forward. The kernel answers an echo request, and
   * acknowledges a segment, before the write to the TUN returns: where one read a turn is all there is to do here, device `answering`
   * is read without being polled. Once in vain, the next answer must have been polled before that is done again.
   */
  look(answering = NO_SLOT): boolean {
    const { poller } = this.#parts;
    const unpolled = this.isIdle && this.#hadSome ? answering : NO_SLOT;
    const { all } = this.#devices;
    this.#tuns.clear();
    for (let i = all.length - 1; i >= 0; i--) {
      const device = all[i];
      if (device === undefined) continue;
      const events = poller.eventsAt(device.position);
      if (events === POLLIN || (events === 0 && device.device === unpolled)) this.#tuns.add(device);
      else if (events !== 0) this.#lose(device);
    }
    return !this.#backlog.isEmpty || this.#tuns.device !== undefined;
  }

  #forwardAll(cost: number): void {
    this.#reads = 0;
    this.#sent = 0;
    this.#cost = 0;
    while (this.#cost < cost) {
      this.#readAhead(cost);
      if (this.#backlog.isEmpty) break;
      this.#forwardOldest();
      // What comes while the rest waits is seen by polling.
      if (this.#tuns.device === undefined) break;
      this.#now = monotonicNow();
    }
    this.#isLone = this.#reads <= 1;
    this.#hadSome = this.#reads > 0;
  }

  /** Reads some packets: those of sparse flows leave at once, the others wait. */
  #readAhead(cost: number): void {
    const { outbox } = this.#parts;
    const backlog = this.#backlog;
    let bytes = 0;
    let hasOvertaken = false;
    while (bytes < BYTES_AHEAD && !backlog.isFull && this.#cost < cost) {
      const { device } = this.#tuns;
      if (device === undefined) break;
      const at = backlog.free;
      const length = this.#tuns.read(device, at);
      if (length === 0) continue;
      bytes += length;
      this.#reads += 1;
      this.#cost += length + COST_OF_READ;
      // Where packets come one by one, none waits until it is known that it was alone.
      const isLone = this.#isLone && this.#reads === 1 && backlog.isEmpty;
      const isSparse = this.#takeSparse(at, length);
      if (isSparse || isLone) this.#receive(device, at, length, isSparse);
      else backlog.push(device, length);
      if (isLone) outbox.flush();
      hasOvertaken ||= isSparse;
    }
    if (hasOvertaken && !backlog.isEmpty) outbox.flush();
  }

  /** Forwards what has waited longest. */
  #forwardOldest(): void {
    const backlog = this.#backlog;
    let bytes = 0;
    while (!backlog.isEmpty && bytes < BYTES_SEALED) {
      const { device, offset, length } = backlog;
      backlog.shift();
      if (device === undefined || this.#devices.get(device.device) !== device) continue;
      this.#receive(device, offset, length, false);
      bytes += length;
    }
  }

  /** Counts a packet with its flow; whether it may overtake others. */
  #takeSparse(at: number, length: number): boolean {
    if (!this.#parts.marksSparse) return false;
    return this.#sparseFlows.take(flowHash(this.#memory.view, at + VNET_HEADER_LENGTH), length, this.#now);
  }

  /** Everything about the packet at `at`; `length` counts its virtio_net_hdr. */
  #receive(device: WorkerDevice, at: number, length: number, isSparse: boolean): void {
    this.#readAt = at;
    this.#isSparse = isSparse;
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
    const keypair = this.#sealer.usableKeypair(peer, segmenter.count, this.#now);
    if (keypair === NO_SLOT) {
      this.#stage(device, peer, length);
      return;
    }
    this.#sealer.sealPacket(peer, keypair, segmenter, this.#isSparse, this.#now);
    this.#sent += 1;
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

  // --- what main asks for

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
  }

  /** Carries out what is in the ring of commands, and wipes its copy of a key that main has retired. */
  obey(): void {
    const { commands } = this.#parts;
    for (let entry = commands.peek(); entry >= 0; entry = commands.peek()) {
      const kind = commands.view.getUint32(entry, true);
      const peer = commands.view.getInt32(entry + COMMAND_PEER, true);
      const sequence = commands.view.getUint32(entry + COMMAND_SEQUENCE, true);
      const size = commands.view.getUint32(entry + COMMAND_SIZE, true);
      commands.release();
      // Where reads go: there is none under way.
      const at = this.#backlog.free;
      if (kind === COMMAND_SEND_KEEPALIVE) this.#sealer.sendKeepalive(peer, at, this.#now);
      else if (kind === COMMAND_SEND_STAGED) this.#sendStaged(peer);
      else if (kind === COMMAND_DROP_STAGED) this.#dropStaged(peer);
      else if (kind === COMMAND_SEND_PROBE)
        this.#sealer.sendProbe(peer, PROBE, sequence, size, at, this.#now);
      else if (kind === COMMAND_ANSWER_PROBE)
        this.#sealer.sendProbe(peer, PROBE_ANSWER, sequence, PATH_PROBE_LENGTH, at, this.#now);
    }
    this.#parts.outbox.flush();
    this.#sealer.wipeIfRetired();
  }

  /** Wipes its copies of keys, at the end. */
  wipe(): void {
    this.#sealer.wipe();
  }

  #sendStaged(peer: number): void {
    for (const { device, bytes } of this.#staging.take(peer)) {
      const target = this.#devices.get(device);
      if (target === undefined) continue;
      const at = this.#backlog.free;
      this.#memory.bytes.set(bytes, at);
      this.#receive(target, at, bytes.length, this.#takeSparse(at, bytes.length));
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
