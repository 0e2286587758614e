// What the main thread and the workers share: peers, keypairs, receiver indices, counts. No locks: each field has one
// writer, or is added to by one atomic instruction. A keypair slot is written once, published by one atomic store, and reused
// only after each worker has been seen outside its packet loop since (an epoch). Times are doubles, whose aligned 64-bit
// accesses do not tear in V8; addresses are published under a sequence number.
//
//   control      what                          writer          readers
//   0            stop                          main            workers
//   64 each      0 epoch (odd: inside)         that worker     main      (one thread for both directions: ingress's alone)
//                8 configuration seen          that worker     main
//
//   peer         0 device   4 keypair in use (slot + 1, atomic)                    main     workers
//   256 B and    8 longest plaintext that the way carries                          main     egress
//   64 a pair    64 endpoint sequence (odd: being written)   68 path, 44 B         main     workers
//                112 the sequences whose path's own address was refused            egress   egress
//                128 dataReceivedAt   136 receivedAt   144 rxBytes                 ingress  main
//                192 confirmed keypair (slot + 1, atomic)   196 its generation     ingress  egress
//                200 heard sequence (odd: being written)   204 path, 44 B          ingress  egress
//                248 the endpoint sequence that it follows                         ingress  egress
//                256 + 64 a pair: 0 dataSentAt   8 sentAt   16 txBytes             egress   main
//
//   keypair      0 generation (atomic; 0: not in use)   4 local index              main     workers
//     192 B      8 remote index   12 peer   16 createdAt   64 send key   96 receive key
//                128 send counter, u32 (atomic: who takes counters adds to it)     egress   main
//
// What ingress has confirmed and heard is egress's to use until main has decided the same or otherwise: else the first
// answer to a peer that is back, or elsewhere, would go under the keypair or to the place of before, and be lost. A peer's
// messages come to one ingress worker; while it changes from one to another both may write, which costs a count at most.

import { IndexTable, NO_SLOT } from './index-table.ts';
import { PeerPaths } from './peer-paths.ts';
import { MAX_PAIRS } from './worker-pairs.ts';

export { NO_SLOT };
/** Of a plaintext: as long as it may be. */
export const UNLIMITED = 0x7fff_ffff;
export const KEY_LENGTH = 32;

const STOP = 0;
const WORKER_LENGTH = 64;
const WORKER_EPOCH = 0;
const WORKER_SEEN = 8;
const CONTROL_LENGTH = WORKER_LENGTH * (1 + 2 * MAX_PAIRS);

const PEER_LENGTH = 256;
const PEER_DEVICE = 0;
const PEER_KEYPAIR = 4;
const PEER_LONGEST = 8;
const PEER_DATA_RECEIVED_AT = 128;
const PEER_RECEIVED_AT = 136;
const PEER_RX_BYTES = 144;
const PEER_CONFIRMED = 192;
const PEER_CONFIRMED_GENERATION = 196;
const SENT_LENGTH = 64;
const DATA_SENT_AT = 0;
const SENT_AT = 8;
const TX_BYTES = 16;

const KEYPAIR_LENGTH = 192;
const KEYPAIR_GENERATION = 0;
const KEYPAIR_LOCAL_INDEX = 4;
const KEYPAIR_REMOTE_INDEX = 8;
const KEYPAIR_PEER = 12;
const KEYPAIR_CREATED_AT = 16;
const KEYPAIR_SEND_KEY = 64;
const KEYPAIR_RECEIVE_KEY = 96;
const KEYPAIR_SEND_COUNTER = 128;

export type Role = 'egress' | 'ingress';

/** Workers count from 0, over all pairs. */
export const workerNumber = (role: Role, pair: number): number => 2 * pair + (role === 'egress' ? 0 : 1);

export interface SharedMemory {
  readonly buffer: SharedArrayBuffer;
  readonly maxPeers: number;
  /** A power of two. */
  readonly maxKeypairs: number;
  /** Of workers: 1, 2, 4 or MAX_PAIRS. */
  readonly pairs: number;
}

/** Memory that is not touched costs nothing, so the maxima may be generous. */
export const createSharedMemory = (maxPeers: number, maxKeypairs: number, pairs = 1): SharedMemory => {
  const length =
    CONTROL_LENGTH +
    maxPeers * peerLength(pairs) +
    maxKeypairs * KEYPAIR_LENGTH +
    IndexTable.length(maxKeypairs);
  return { buffer: new SharedArrayBuffer(length), maxPeers, maxKeypairs, pairs };
};

const peerLength = (pairs: number): number => PEER_LENGTH + pairs * SENT_LENGTH;

/** One thread's view of the shared memory. Methods say whose they are; slots are small integers. */
export class SharedState {
  readonly maxPeers: number;
  readonly maxKeypairs: number;
  readonly pairs: number;
  readonly bytes: Uint8Array;
  /** Where peers are. */
  readonly paths: PeerPaths;
  readonly #i32: Int32Array;
  readonly #u32: Uint32Array;
  readonly #f64: Float64Array;
  readonly #peerLength: number;
  readonly #keypairs: number;
  readonly #indices: IndexTable;

  constructor(memory: SharedMemory) {
    this.maxPeers = memory.maxPeers;
    this.maxKeypairs = memory.maxKeypairs;
    this.pairs = memory.pairs;
    this.bytes = new Uint8Array(memory.buffer);
    this.#i32 = new Int32Array(memory.buffer);
    this.#u32 = new Uint32Array(memory.buffer);
    this.#f64 = new Float64Array(memory.buffer);
    this.#peerLength = peerLength(memory.pairs);
    this.#keypairs = CONTROL_LENGTH + memory.maxPeers * this.#peerLength;
    const indices = this.#keypairs + memory.maxKeypairs * KEYPAIR_LENGTH;
    this.#indices = new IndexTable(memory.buffer, indices, memory.maxKeypairs);
    this.paths = new PeerPaths(memory.buffer, CONTROL_LENGTH, this.#peerLength);
  }

  // --- control

  /** Main. */
  stop(): void {
    Atomics.store(this.#i32, STOP >> 2, 1);
  }

  get stopped(): boolean {
    return Atomics.load(this.#i32, STOP >> 2) === 1;
  }

  /** Worker: from here until `leave` it may hold slots. */
  enter(worker: number): void {
    Atomics.add(this.#i32, epochAt(worker), 1);
  }

  /** Worker: it holds no slot any more. A worker starts outside. */
  leave(worker: number): void {
    Atomics.add(this.#i32, epochAt(worker), 1);
  }

  /** Main: the workers' epochs, to compare with later by `havePassed`. */
  epochs(): number[] {
    return Array.from({ length: 2 * this.pairs }, (_, worker) => Atomics.load(this.#i32, epochAt(worker)));
  }

  /** Main: whether each worker has been outside since it was at its one of `epochs`. */
  havePassed(epochs: readonly number[]): boolean {
    return epochs.every((epoch, worker) => {
      const wasInside = (epoch & 1) === 1;
      return !wasInside || Atomics.load(this.#i32, epochAt(worker)) !== epoch;
    });
  }

  /** Worker: it has taken over the configuration message of that sequence number, and all before. */
  setSeen(worker: number, sequence: number): void {
    Atomics.store(this.#i32, seenAt(worker), sequence);
  }

  seen(worker: number): number {
    return Atomics.load(this.#i32, seenAt(worker));
  }

  // --- peers

  /** Main: makes the slot a new peer's. */
  initPeer(peer: number, device: number): void {
    const at = this.#peer(peer);
    this.paths.reset(peer);
    this.#f64.fill(0, (at + PEER_DATA_RECEIVED_AT) >> 3, (at + this.#peerLength) >> 3);
    Atomics.store(this.#i32, (at + PEER_KEYPAIR) >> 2, 0);
    this.setLongestPlaintext(peer, UNLIMITED);
    Atomics.store(this.#i32, (at + PEER_DEVICE) >> 2, device);
  }

  deviceOf(peer: number): number {
    return this.#i32[(this.#peer(peer) + PEER_DEVICE) >> 2] ?? 0;
  }

  /** Main: publishes the keypair to seal with; NO_SLOT: none. */
  setKeypairInUse(peer: number, slot: number): void {
    Atomics.store(this.#i32, (this.#peer(peer) + PEER_KEYPAIR) >> 2, slot + 1);
  }

  /** Main: messages with more plaintext than this are too big for the way there, as far as is known. */
  setLongestPlaintext(peer: number, length: number): void {
    this.#i32[(this.#peer(peer) + PEER_LONGEST) >> 2] = length;
  }

  longestPlaintext(peer: number): number {
    return this.#i32[(this.#peer(peer) + PEER_LONGEST) >> 2] ?? 0;
  }

  keypairInUse(peer: number): number {
    return Atomics.load(this.#i32, (this.#peer(peer) + PEER_KEYPAIR) >> 2) - 1;
  }

  /** Ingress: the peer has shown that it has this keypair. */
  confirmKeypair(peer: number, slot: number): void {
    const at = this.#peer(peer);
    const before = this.keypairToSealWith(peer);
    if (before !== NO_SLOT && this.createdAtOf(slot) <= this.createdAtOf(before)) return;
    Atomics.store(this.#i32, (at + PEER_CONFIRMED_GENERATION) >> 2, this.generationOf(slot));
    Atomics.store(this.#i32, (at + PEER_CONFIRMED) >> 2, slot + 1);
  }

  /** The keypair in use, or a newer one that the peer has confirmed since; NO_SLOT: none. */
  keypairToSealWith(peer: number): number {
    const at = this.#peer(peer);
    const inUse = this.keypairInUse(peer);
    const confirmed = Atomics.load(this.#i32, (at + PEER_CONFIRMED) >> 2) - 1;
    if (confirmed === NO_SLOT || confirmed === inUse) return inUse;
    const generation = Atomics.load(this.#i32, (at + PEER_CONFIRMED_GENERATION) >> 2);
    if (generation === 0 || generation !== this.generationOf(confirmed)) return inUse;
    if (inUse !== NO_SLOT && this.createdAtOf(confirmed) <= this.createdAtOf(inUse)) return inUse;
    return confirmed;
  }

  /** Egress of that pair. */
  countSent(pair: number, peer: number, bytes: number, now: number, isData: boolean): void {
    const at = this.#sent(peer, pair);
    const txBytes = (at + TX_BYTES) >> 3;
    this.#f64[txBytes] = (this.#f64[txBytes] ?? 0) + bytes;
    this.#f64[(at + SENT_AT) >> 3] = now;
    if (isData) this.#f64[(at + DATA_SENT_AT) >> 3] = now;
  }

  /** Ingress. */
  countReceived(peer: number, bytes: number, now: number, isData: boolean): void {
    const at = this.#peer(peer);
    const rxBytes = (at + PEER_RX_BYTES) >> 3;
    this.#f64[rxBytes] = (this.#f64[rxBytes] ?? 0) + bytes;
    this.#f64[(at + PEER_RECEIVED_AT) >> 3] = now;
    if (isData) this.#f64[(at + PEER_DATA_RECEIVED_AT) >> 3] = now;
  }

  dataSentAt(peer: number): number {
    return this.#latestSent(peer, DATA_SENT_AT);
  }

  sentAt(peer: number): number {
    return this.#latestSent(peer, SENT_AT);
  }

  txBytes(peer: number): number {
    let sum = 0;
    for (let pair = 0; pair < this.pairs; pair++)
      sum += this.#f64[(this.#sent(peer, pair) + TX_BYTES) >> 3] ?? 0;
    return sum;
  }

  dataReceivedAt(peer: number): number {
    return this.#f64[(this.#peer(peer) + PEER_DATA_RECEIVED_AT) >> 3] ?? 0;
  }

  receivedAt(peer: number): number {
    return this.#f64[(this.#peer(peer) + PEER_RECEIVED_AT) >> 3] ?? 0;
  }

  rxBytes(peer: number): number {
    return this.#f64[(this.#peer(peer) + PEER_RX_BYTES) >> 3] ?? 0;
  }

  // --- keypairs

  /** Main: fills a slot that no worker can see, then publishes it under a generation above 0. Borrows the keys. */
  installKeypair(
    slot: number,
    generation: number,
    peer: number,
    localIndex: number,
    remoteIndex: number,
    createdAt: number,
    sendKey: Uint8Array,
    receiveKey: Uint8Array,
  ): void {
    const at = this.#keypair(slot);
    this.#u32[(at + KEYPAIR_LOCAL_INDEX) >> 2] = localIndex;
    this.#u32[(at + KEYPAIR_REMOTE_INDEX) >> 2] = remoteIndex;
    this.#i32[(at + KEYPAIR_PEER) >> 2] = peer;
    this.#f64[(at + KEYPAIR_CREATED_AT) >> 3] = createdAt;
    Atomics.store(this.#i32, (at + KEYPAIR_SEND_COUNTER) >> 2, 0);
    this.bytes.set(sendKey, at + KEYPAIR_SEND_KEY);
    this.bytes.set(receiveKey, at + KEYPAIR_RECEIVE_KEY);
    Atomics.store(this.#i32, (at + KEYPAIR_GENERATION) >> 2, generation);
    this.#indices.insert(localIndex | 0, slot);
  }

  /** Main: takes the slot out of sight. Its keys stay, since a worker may be using them, until `wipeKeypair`. */
  retireKeypair(slot: number): void {
    const at = this.#keypair(slot);
    this.#indices.remove(this.#i32[(at + KEYPAIR_LOCAL_INDEX) >> 2] ?? 0);
    Atomics.store(this.#i32, (at + KEYPAIR_GENERATION) >> 2, 0);
  }

  /** Main, after the workers have passed. */
  wipeKeypair(slot: number): void {
    const at = this.#keypair(slot);
    this.bytes.fill(0, at + KEYPAIR_SEND_KEY, at + KEYPAIR_RECEIVE_KEY + KEY_LENGTH);
  }

  /** 0: not in use. Another number than before: another keypair. */
  generationOf(slot: number): number {
    return Atomics.load(this.#i32, (this.#keypair(slot) + KEYPAIR_GENERATION) >> 2);
  }

  localIndexOf(slot: number): number {
    return this.#u32[(this.#keypair(slot) + KEYPAIR_LOCAL_INDEX) >> 2] ?? 0;
  }

  remoteIndexOf(slot: number): number {
    return this.#u32[(this.#keypair(slot) + KEYPAIR_REMOTE_INDEX) >> 2] ?? 0;
  }

  peerOf(slot: number): number {
    return this.#i32[(this.#keypair(slot) + KEYPAIR_PEER) >> 2] ?? 0;
  }

  createdAtOf(slot: number): number {
    return this.#f64[(this.#keypair(slot) + KEYPAIR_CREATED_AT) >> 3] ?? 0;
  }

  /** Copies a key (32 B) into a worker's own memory. */
  copySendKey(slot: number, to: Uint8Array, offset: number): void {
    this.#copyKey(this.#keypair(slot) + KEYPAIR_SEND_KEY, to, offset);
  }

  copyReceiveKey(slot: number, to: Uint8Array, offset: number): void {
    this.#copyKey(this.#keypair(slot) + KEYPAIR_RECEIVE_KEY, to, offset);
  }

  /** The counter that nobody has taken yet. */
  sendCounterOf(slot: number): number {
    return Atomics.load(this.#i32, (this.#keypair(slot) + KEYPAIR_SEND_COUNTER) >> 2) >>> 0;
  }

  /** Egress: takes `n` counters, the first of which is returned. No other gets them, whatever becomes of them here. */
  takeCounters(slot: number, n: number): number {
    return Atomics.add(this.#i32, (this.#keypair(slot) + KEYPAIR_SEND_COUNTER) >> 2, n) >>> 0;
  }

  /** The slot whose keypair listens on this receiver index (signed or unsigned), or NO_SLOT. */
  findKeypair(index: number): number {
    const slot = this.#indices.find(index | 0);
    if (slot === NO_SLOT) return NO_SLOT;
    // Its entry may have changed hands while it was read: the slot itself has the last word.
    const keypair = this.#keypair(slot);
    const isLive = Atomics.load(this.#i32, (keypair + KEYPAIR_GENERATION) >> 2) !== 0;
    return isLive && this.#i32[(keypair + KEYPAIR_LOCAL_INDEX) >> 2] === (index | 0) ? slot : NO_SLOT;
  }

  #latestSent(peer: number, field: number): number {
    let latest = 0;
    for (let pair = 0; pair < this.pairs; pair++)
      latest = Math.max(latest, this.#f64[(this.#sent(peer, pair) + field) >> 3] ?? 0);
    return latest;
  }

  #copyKey(from: number, to: Uint8Array, offset: number): void {
    for (let i = 0; i < KEY_LENGTH; i++) to[offset + i] = this.bytes[from + i] ?? 0;
  }

  #peer(peer: number): number {
    return CONTROL_LENGTH + peer * this.#peerLength;
  }

  #sent(peer: number, pair: number): number {
    return this.#peer(peer) + PEER_LENGTH + pair * SENT_LENGTH;
  }

  #keypair(slot: number): number {
    return this.#keypairs + slot * KEYPAIR_LENGTH;
  }
}

const epochAt = (worker: number): number => (WORKER_LENGTH * (1 + worker) + WORKER_EPOCH) >> 2;
const seenAt = (worker: number): number => (WORKER_LENGTH * (1 + worker) + WORKER_SEEN) >> 2;
