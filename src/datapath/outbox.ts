// Sealed messages on their way to the UDP sockets: consecutive messages of one size to one peer form a run, and a run
// leaves in one send that the kernel cuts up (UDP_SEGMENT; only the last may be shorter). Without that offload each
// message is a run of its own, and a batch of runs leaves in one system call.

import { EINVAL, EIO, EMSGSIZE, errno, MSG_DONTWAIT, sendmmsg, sendmsg, setsockopt } from '../ffi/libc.ts';
import type { Arena } from '../ffi/memory.ts';
import { HEADROOM, TAG_LENGTH, TAILROOM } from './aead.ts';
import type { Counters, EgressCounter } from './counters.ts';
import { FragmentSender } from './fragment-sender.ts';
import { MessageBatch } from './message-batch.ts';
import type { SharedState } from './shared-state.ts';
import { AF_INET, AF_INET6, PATH_LENGTH, PATH_LOCAL, sockaddrLength } from './sockaddr.ts';
import { mayBeOfLocal, mtuDiscovery, PMTUDISC_OMIT, PMTUDISC_PROBE, type UdpSockets } from './udp.ts';

/** Message header: type u32, receiver index u32, counter u64 (whitepaper section 5.4.6). */
const HEADER_LENGTH = 16;
const TYPE_TRANSPORT_DATA = 4;
/** What a message adds to its plaintext. */
const OVERHEAD = HEADER_LENGTH + TAG_LENGTH;

const MAX_RUNS = 64;
/** UDP_MAX_SEGMENTS of older kernels. */
const MAX_SEGMENTS = 64;
/** A datagram before cutting, with its IP and UDP headers, must stay below 64 KB. */
const MAX_RUN_BYTES = 65000;
const AREA = 512 << 10;
/** Past this many bytes a send is worth its system call, and waiting longer only adds delay. */
const WORTH_SENDING = 60_000;

export class Outbox {
  readonly #arena: Arena;
  readonly #view: DataView;
  readonly #state: SharedState;
  readonly #counters: Counters<EgressCounter>;
  readonly #udp: UdpSockets;
  readonly #batch: MessageBatch;
  readonly #area: number;
  #segmentation: boolean;

  /** Where the next message's headroom begins. */
  #cursor: number;
  #pending = 0;
  #runs = 0;
  /** The open run is the last one. */
  #isOpen = false;
  readonly #runPeer = new Int32Array(MAX_RUNS);
  readonly #runSize = new Int32Array(MAX_RUNS);
  readonly #runBytes = new Int32Array(MAX_RUNS);
  readonly #runParts = new Int32Array(MAX_RUNS);
  readonly #runTrafficClass = new Int32Array(MAX_RUNS);
  /** Where each part is, to send them one by one if need be. */
  readonly #partOffset = new Int32Array(MAX_RUNS * MAX_SEGMENTS);
  readonly #partLength = new Int32Array(MAX_RUNS * MAX_SEGMENTS);
  readonly #single: MessageBatch;
  readonly #fragments: FragmentSender;
  readonly #runIsCut = new Uint8Array(MAX_RUNS);
  readonly #option: number;
  /** What is sent now is to find out whether it gets through whole. */
  #isProbing = false;

  constructor(arena: Arena, state: SharedState, counters: Counters<EgressCounter>, udp: UdpSockets) {
    this.#arena = arena;
    this.#view = arena.view;
    this.#state = state;
    this.#counters = counters;
    this.#udp = udp;
    this.#segmentation = udp.offloads.segmentation;
    this.#batch = new MessageBatch(arena, MAX_RUNS, MAX_SEGMENTS);
    this.#single = new MessageBatch(arena, 1, 1);
    this.#fragments = new FragmentSender(arena, udp);
    this.#option = arena.allocate(8);
    this.#area = arena.allocate(AREA);
    this.#cursor = this.#area;
  }

  /** Bytes an arena must have for this. */
  static readonly ARENA = AREA + MAX_RUNS * (MAX_SEGMENTS * 16 + 256) + FragmentSender.ARENA + 4096;

  /** Where to seal the next message to, of `length` bytes before sealing. */
  place(length: number): number {
    const room = HEADROOM + length + TAG_LENGTH + TAILROOM;
    if (this.#cursor + room > this.#area + AREA) this.flush();
    return this.#cursor + HEADROOM;
  }

  /** Adds what was sealed to the place given last. `trafficClass`: of the outer header. */
  add(peer: number, remoteIndex: number, counter: number, length: number, trafficClass: number): void {
    const header = this.#cursor + HEADROOM - HEADER_LENGTH;
    const view = this.#view;
    view.setUint32(header, TYPE_TRANSPORT_DATA, true);
    view.setUint32(header + 4, remoteIndex, true);
    const high = Math.floor(counter / 0x1_0000_0000);
    view.setUint32(header + 8, counter - high * 0x1_0000_0000, true);
    view.setUint32(header + 12, high, true);

    const size = HEADER_LENGTH + length + TAG_LENGTH;
    const end = this.#cursor + HEADROOM + length + TAG_LENGTH + TAILROOM;
    this.#cursor = (end + 63) & ~63;
    if (!this.#fitsOpenRun(peer, size, trafficClass)) this.#openRun(peer, size, trafficClass);
    const run = this.#runs - 1;
    const part = this.#runParts[run] ?? 0;
    this.#batch.setPart(run, part, header, size);
    this.#partOffset[run * MAX_SEGMENTS + part] = header;
    this.#partLength[run * MAX_SEGMENTS + part] = size;
    this.#runParts[run] = part + 1;
    this.#runBytes[run] = (this.#runBytes[run] ?? 0) + size;
    this.#pending += size;
    if (!this.#segmentation || size < (this.#runSize[run] ?? 0)) this.#isOpen = false;
  }

  /** Whether it is time to send without waiting for more. */
  get isWorthSending(): boolean {
    return this.#pending >= WORTH_SENDING;
  }

  #fitsOpenRun(peer: number, size: number, trafficClass: number): boolean {
    if (!this.#isOpen) return false;
    const run = this.#runs - 1;
    return (
      this.#runPeer[run] === peer &&
      this.#runTrafficClass[run] === trafficClass &&
      size <= (this.#runSize[run] ?? 0) &&
      (this.#runParts[run] ?? 0) < MAX_SEGMENTS &&
      (this.#runBytes[run] ?? 0) + size <= MAX_RUN_BYTES
    );
  }

  /** The message at hand stays where it is even if all before it must leave first. */
  #openRun(peer: number, size: number, trafficClass: number): void {
    if (this.#runs === MAX_RUNS) this.#sendRuns();
    const run = this.#runs;
    this.#runs = run + 1;
    this.#runPeer[run] = peer;
    this.#runSize[run] = size;
    this.#runBytes[run] = 0;
    this.#runParts[run] = 0;
    this.#runTrafficClass[run] = trafficClass;
    this.#isOpen = true;
    const path = this.#batch.pathOffset(run);
    this.#state.paths.read(peer, this.#view, path);
    const family = this.#view.getUint16(path, true);
    this.#batch.setNameLength(run, sockaddrLength(family));
    // Routers cut IPv4; IPv6 is cut where it comes from, or lost.
    const isCut = family === AF_INET6 && !this.#isProbing;
    this.#runIsCut[run] = isCut && size > this.#state.longestPlaintext(peer) + OVERHEAD ? 1 : 0;
  }

  /** What is added until `endProbe` is sent in one piece or not at all; what was added before goes now. */
  beginProbe(): void {
    this.flush();
    this.#isProbing = true;
  }

  endProbe(): void {
    this.#setMtuDiscovery(PMTUDISC_PROBE);
    this.flush();
    this.#setMtuDiscovery(PMTUDISC_OMIT);
    this.#isProbing = false;
  }

  #setMtuDiscovery(mode: number): void {
    const { v4, v6 } = this.#udp;
    this.#view.setInt32(this.#option, mode, true);
    const value = this.#arena.address + this.#option;
    for (const [fd, { level, option }] of [
      [v4, mtuDiscovery.v4],
      [v6, mtuDiscovery.v6],
    ] as const)
      if (fd >= 0) setsockopt(fd, level, option, value, 4);
  }

  /** Sends everything. */
  flush(): void {
    this.#sendRuns();
    this.#cursor = this.#area;
  }

  #sendRuns(): void {
    const runs = this.#runs;
    for (let run = 0; run < runs; run++) {
      this.#batch.setPartCount(run, this.#runParts[run] ?? 0);
      this.#setControl(run);
    }
    for (let run = 0; run < runs; ) run += this.#sendFrom(run, runs);
    this.#runs = 0;
    this.#isOpen = false;
    this.#pending = 0;
  }

  #setControl(run: number): void {
    const segmentSize = (this.#runParts[run] ?? 0) > 1 ? (this.#runSize[run] ?? 0) : 0;
    this.#batch.setControl(run, segmentSize, this.#runTrafficClass[run] ?? 0);
  }

  /** Sends runs from `run` on that leave by the same socket; returns how many are dealt with, at least one. */
  #sendFrom(run: number, end: number): number {
    const fd = this.#socketOf(run);
    const { at } = this.#counters;
    if (fd < 0) {
      this.#counters.add(at['dropped:no-endpoint'], this.#runParts[run] ?? 0);
      return 1;
    }
    if (this.#runIsCut[run] === 1) {
      this.#sendInPieces(run);
      return 1;
    }
    let last = run + 1;
    while (last < end && this.#runIsCut[last] === 0 && this.#socketOf(last) === fd) last++;
    this.#counters.add(at.sends, 1);
    const sent = sendmmsg(fd, this.#batch.addressOf(run), last - run, 0);
    if (sent > 0) return sent;
    const code = errno();
    if (this.#batch.hasLocal(run) && mayBeOfLocal(code) && this.#sendFromAnywhere(run, fd)) return 1;
    this.#failed(run, fd, code);
    return 1;
  }

  /** The address that the peer used may be ours no more: the kernel then says what it also says of a bad offload. */
  #sendFromAnywhere(run: number, fd: number): boolean {
    const local = this.#batch.pathOffset(run) + PATH_LOCAL;
    this.#arena.bytes.fill(0, local, local + PATH_LENGTH - PATH_LOCAL);
    this.#setControl(run);
    if (sendmmsg(fd, this.#batch.addressOf(run), 1, 0) !== 1) return false;
    this.#state.paths.refuseLocal(this.#runPeer[run] ?? 0);
    return true;
  }

  #socketOf(run: number): number {
    const family = this.#view.getUint16(this.#batch.pathOffset(run), true);
    if (family === AF_INET) return this.#udp.v4;
    return family === AF_INET6 ? this.#udp.v6 : -1;
  }

  /**
   * A run that the kernel refuses is tried message by message. If that works, the offload is what it refuses (some
   * kernels and drivers do, with EIO or EINVAL), and it is not used again.
   */
  #failed(run: number, fd: number, code: number): void {
    // That it does not even leave is an answer, too.
    if (this.#isProbing) return;
    const parts = this.#runParts[run] ?? 0;
    if (parts === 1 || (code !== EIO && code !== EINVAL && code !== EMSGSIZE)) {
      this.#countFailure(code, parts);
      return;
    }
    let failures = 0;
    for (let part = 0; part < parts; part++) {
      const error = this.#sendPart(run, part, fd);
      if (error === 0) continue;
      failures += 1;
      this.#countFailure(error, 1);
    }
    if (failures === 0 && code !== EMSGSIZE) this.#segmentation = false;
  }

  /** Larger than the way to the peer carries: in IPv6 fragments. */
  #sendInPieces(run: number): void {
    const parts = this.#runParts[run] ?? 0;
    this.#counters.add(this.#counters.at.sends, parts);
    for (let part = 0; part < parts; part++) {
      const at = run * MAX_SEGMENTS + part;
      const error = this.#fragments.send(
        this.#batch.pathOffset(run),
        this.#partOffset[at] ?? 0,
        this.#partLength[at] ?? 0,
        this.#runTrafficClass[run] ?? 0,
      );
      if (error !== 0) this.#countFailure(error, 1);
    }
  }

  #sendPart(run: number, part: number, fd: number): number {
    const { bytes } = this.#arena;
    const path = this.#batch.pathOffset(run);
    bytes.copyWithin(this.#single.pathOffset(0), path, path + PATH_LENGTH);
    this.#single.setNameLength(0, sockaddrLength(this.#view.getUint16(path, true)));
    const offset = this.#partOffset[run * MAX_SEGMENTS + part] ?? 0;
    this.#single.setPart(0, 0, offset, this.#partLength[run * MAX_SEGMENTS + part] ?? 0);
    this.#single.setPartCount(0, 1);
    this.#single.setControl(0, 0, this.#runTrafficClass[run] ?? 0);
    return sendmsg(fd, this.#single.addressOf(0), MSG_DONTWAIT) < 0 ? errno() : 0;
  }

  #countFailure(code: number, messages: number): void {
    const { at } = this.#counters;
    this.#counters.add(code === EMSGSIZE ? at['dropped:too-big'] : at['dropped:send-failed'], messages);
  }
}
