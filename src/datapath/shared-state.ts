// What the main thread and the two workers share: peers, keypairs, receiver indices, counts. No locks: each field has
// one writer. A keypair slot is written once, published by one atomic store, and reused only after each worker has
// been seen outside its packet loop since (an epoch). Times are doubles, whose aligned 64-bit accesses do not tear in
// V8; addresses are published under a sequence number.
//
//   control      what                          writer          readers
//   0            stop                          main            workers
//   64           egress epoch (odd: outside)   egress          main
//   72           egress configuration seen     egress          main
//   128          ingress epoch                 ingress         main
//   136          ingress configuration seen    ingress         main
//
//   peer 320 B   0 device   4 keypair in use (slot + 1, atomic)                    main     workers
//                8 longest plaintext that the way carries                          main     egress
//                64 endpoint sequence (odd: being written)   68 path, 44 B         main     workers
//                128 dataSentAt   136 sentAt   144 txBytes                         egress   main
//                152 the sequences whose path's own address was refused            egress   egress
//                192 dataReceivedAt   200 receivedAt   208 rxBytes                 ingress  main
//                256 confirmed keypair (slot + 1, atomic)   260 its generation     ingress  egress
//                264 heard sequence (odd: being written)   268 path, 44 B          ingress  egress
//                312 the endpoint sequence that it follows                         ingress  egress
//
//   keypair      0 generation (atomic; 0: not in use)   4 local index              main     workers
//     192 B      8 remote index   12 peer   16 createdAt   64 send key   96 receive key
//                128 send counter, u32 (atomic: who takes counters adds to it)     egress   main
//
// What ingress has confirmed and heard is egress's to use until main has decided the same or otherwise: else the first
// answer to a peer that is back, or elsewhere, would go under the keypair or to the place of before, and be lost.
//
//   index table  pairs of receiver index and slot + 1 (atomic; 0: free, -1: was in use)   main   ingress

import { PeerPaths } from './peer-paths.ts';

export const NO_SLOT = -1;
/** Of a plaintext: as long as it may be. */
export const UNLIMITED = 0x7fff_ffff;
export const KEY_LENGTH = 32;

const STOP = 0;
const EPOCHS = [64, 128] as const;
const SEENS = [72, 136] as const;
const CONTROL_LENGTH = 192;

const PEER_LENGTH = 320;
const PEER_DEVICE = 0;
const PEER_KEYPAIR = 4;
const PEER_LONGEST = 8;
const PEER_DATA_SENT_AT = 128;
const PEER_SENT_AT = 136;
const PEER_TX_BYTES = 144;
const PEER_DATA_RECEIVED_AT = 192;
const PEER_RECEIVED_AT = 200;
const PEER_RX_BYTES = 208;
const PEER_CONFIRMED = 256;
const PEER_CONFIRMED_GENERATION = 260;

const KEYPAIR_LENGTH = 192;
const KEYPAIR_GENERATION = 0;
const KEYPAIR_LOCAL_INDEX = 4;
const KEYPAIR_REMOTE_INDEX = 8;
const KEYPAIR_PEER = 12;
const KEYPAIR_CREATED_AT = 16;
const KEYPAIR_SEND_KEY = 64;
const KEYPAIR_RECEIVE_KEY = 96;
const KEYPAIR_SEND_COUNTER = 128;

const ENTRY_LENGTH = 8;
const ENTRY_SLOT = 4;
const ENTRY_FREE = 0;
const ENTRY_WAS_USED = -1;
/** Index table entries per keypair slot: chains stay short. */
const ENTRIES_PER_KEYPAIR = 4;

export type WorkerName = 'egress' | 'ingress';
const workerNumber = (worker: WorkerName): 0 | 1 => (worker === 'egress' ? 0 : 1);

export interface SharedMemory {
  readonly buffer: SharedArrayBuffer;
  readonly maxPeers: number;
  /** A power of two. */
  readonly maxKeypairs: number;
}

/** Memory that is not touched costs nothing, so the maxima may be generous. */
export const createSharedMemory = (maxPeers: number, maxKeypairs: number): SharedMemory => {
  const length =
    CONTROL_LENGTH +
    maxPeers * PEER_LENGTH +
    maxKeypairs * (KEYPAIR_LENGTH + ENTRIES_PER_KEYPAIR * ENTRY_LENGTH);
  return { buffer: new SharedArrayBuffer(length), maxPeers, maxKeypairs };
};

/** One thread's view of the shared memory. Methods say whose they are; slots are small integers. */
export class SharedState {
  readonly maxPeers: number;
  readonly maxKeypairs: number;
  readonly bytes: Uint8Array;
  /** Where peers are. */
  readonly paths: PeerPaths;
  readonly #i32: Int32Array;
  readonly #u32: Uint32Array;
  readonly #f64: Float64Array;
  readonly #keypairs: number;
  readonly #entries: number;
  readonly #entryMask: number;

  constructor(memory: SharedMemory) {
    this.maxPeers = memory.maxPeers;
    this.maxKeypairs = memory.maxKeypairs;
    this.bytes = new Uint8Array(memory.buffer);
    this.#i32 = new Int32Array(memory.buffer);
    this.#u32 = new Uint32Array(memory.buffer);
    this.#f64 = new Float64Array(memory.buffer);
    this.#keypairs = CONTROL_LENGTH + memory.maxPeers * PEER_LENGTH;
    this.#entries = this.#keypairs + memory.maxKeypairs * KEYPAIR_LENGTH;
    this.#entryMask = memory.maxKeypairs * ENTRIES_PER_KEYPAIR - 1;
    this.paths = new PeerPaths(memory.buffer, CONTROL_LENGTH, PEER_LENGTH);
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
  enter(worker: WorkerName): void {
    Atomics.add(this.#i32, EPOCHS[workerNumber(worker)] >> 2, 1);
  }

  /** Worker: it holds no slot any more. A worker starts outside. */
  leave(worker: WorkerName): void {
    Atomics.add(this.#i32, EPOCHS[workerNumber(worker)] >> 2, 1);
  }

  /** Main: an epoch to compare with later, by `hasPassed`. */
  epoch(worker: WorkerName): number {
    return Atomics.load(this.#i32, EPOCHS[workerNumber(worker)] >> 2);
  }

  /** Main: whether the worker has been outside since it was at `epoch`. */
  hasPassed(worker: WorkerName, epoch: number): boolean {
    const isInside = (epoch & 1) === 1;
    return !isInside || this.epoch(worker) !== epoch;
  }

  /** Worker: it has taken over the configuration message of that sequence number, and all before. */
  setSeen(worker: WorkerName, sequence: number): void {
    Atomics.store(this.#i32, SEENS[workerNumber(worker)] >> 2, sequence);
  }

  seen(worker: WorkerName): number {
    return Atomics.load(this.#i32, SEENS[workerNumber(worker)] >> 2);
  }

  // --- peers

  /** Main: makes the slot a new peer's. */
  initPeer(peer: number, device: number): void {
    const at = this.#peer(peer);
    this.paths.reset(peer);
    this.#f64.fill(0, (at + PEER_DATA_SENT_AT) >> 3, (at + PEER_LENGTH) >> 3);
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

  /** Egress. */
  countSent(peer: number, bytes: number, now: number, isData: boolean): void {
    const at = this.#peer(peer);
    const txBytes = (at + PEER_TX_BYTES) >> 3;
    this.#f64[txBytes] = (this.#f64[txBytes] ?? 0) + bytes;
    this.#f64[(at + PEER_SENT_AT) >> 3] = now;
    if (isData) this.#f64[(at + PEER_DATA_SENT_AT) >> 3] = now;
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
    return this.#f64[(this.#peer(peer) + PEER_DATA_SENT_AT) >> 3] ?? 0;
  }

  sentAt(peer: number): number {
    return this.#f64[(this.#peer(peer) + PEER_SENT_AT) >> 3] ?? 0;
  }

  txBytes(peer: number): number {
    return this.#f64[(this.#peer(peer) + PEER_TX_BYTES) >> 3] ?? 0;
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
    this.#insertIndex(localIndex, slot);
  }

  /** Main: takes the slot out of sight. Its keys stay, since a worker may be using them, until `wipeKeypair`. */
  retireKeypair(slot: number): void {
    const at = this.#keypair(slot);
    this.#removeIndex(this.#u32[(at + KEYPAIR_LOCAL_INDEX) >> 2] ?? 0);
    Atomics.store(this.#i32, (at + KEYPAIR_GENERATION) >> 2, 0);
  }

  /** Main, after both workers have passed. */
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
    const localIndex = index | 0;
    let entry = localIndex & this.#entryMask;
    for (let i = 0; i <= this.#entryMask; i++) {
      const at = this.#entries + entry * ENTRY_LENGTH;
      const slot = Atomics.load(this.#i32, (at + ENTRY_SLOT) >> 2);
      if (slot === ENTRY_FREE) return NO_SLOT;
      if (slot > 0 && this.#i32[at >> 2] === localIndex) {
        // The entry may have changed hands between the two reads: the slot itself has the last word.
        const keypair = this.#keypair(slot - 1);
        const isLive = Atomics.load(this.#i32, (keypair + KEYPAIR_GENERATION) >> 2) !== 0;
        const isIts = this.#i32[(keypair + KEYPAIR_LOCAL_INDEX) >> 2] === localIndex;
        return isLive && isIts ? slot - 1 : NO_SLOT;
      }
      entry = (entry + 1) & this.#entryMask;
    }
    return NO_SLOT;
  }

  #insertIndex(localIndex: number, slot: number): void {
    let entry = localIndex & this.#entryMask;
    for (;;) {
      const at = this.#entries + entry * ENTRY_LENGTH;
      const used = Atomics.load(this.#i32, (at + ENTRY_SLOT) >> 2);
      if (used === ENTRY_FREE || used === ENTRY_WAS_USED) {
        this.#u32[at >> 2] = localIndex;
        Atomics.store(this.#i32, (at + ENTRY_SLOT) >> 2, slot + 1);
        return;
      }
      entry = (entry + 1) & this.#entryMask;
    }
  }

  #removeIndex(localIndex: number): void {
    let entry = localIndex & this.#entryMask;
    for (;;) {
      const at = this.#entries + entry * ENTRY_LENGTH;
      const slot = Atomics.load(this.#i32, (at + ENTRY_SLOT) >> 2);
      if (slot === ENTRY_FREE) return;
      if (slot > 0 && this.#u32[at >> 2] === localIndex) break;
      entry = (entry + 1) & this.#entryMask;
    }
    Atomics.store(this.#i32, this.#entrySlot(entry), ENTRY_WAS_USED);
    // At the end of a chain nothing needs to be stepped over any more.
    if (Atomics.load(this.#i32, this.#entrySlot((entry + 1) & this.#entryMask)) !== ENTRY_FREE) return;
    while (Atomics.load(this.#i32, this.#entrySlot(entry)) === ENTRY_WAS_USED) {
      Atomics.store(this.#i32, this.#entrySlot(entry), ENTRY_FREE);
      entry = (entry - 1) & this.#entryMask;
    }
  }

  #entrySlot(entry: number): number {
    return (this.#entries + entry * ENTRY_LENGTH + ENTRY_SLOT) >> 2;
  }

  #copyKey(from: number, to: Uint8Array, offset: number): void {
    for (let i = 0; i < KEY_LENGTH; i++) to[offset + i] = this.bytes[from + i] ?? 0;
  }

  #peer(peer: number): number {
    return CONTROL_LENGTH + peer * PEER_LENGTH;
  }

  #keypair(slot: number): number {
    return this.#keypairs + slot * KEYPAIR_LENGTH;
  }
}
