// Seals what goes to a peer, under counters that nobody else takes, into the outbox: packets cut into their segments, keepalives,
// probes. Which keypair may still seal is decided here, too.

import { ECN_MASK, enterTunnel, NOT_ECT } from '../../native-free/wire/ecn.ts';
import { TRANSPORT_HEADER_LENGTH } from '../../native-free/wire/message.ts';
import type { PacketMemory } from '../../native-free/wire/packet-memory.ts';
import { writePathProbe } from '../../native-free/wire/path-probe.ts';
import type { Segmenter } from '../../native-free/wire/segment.ts';
import { LOW_LATENCY_CLASS } from '../../native-free/wire/sparse-flows.ts';
import type { Arena } from '../ffi/memory.ts';
import { type Aead, type AeadTier, TAG_LENGTH } from './aead.ts';
import type { Counters, EgressCounter } from './counters.ts';
import { KeyCache } from './key-cache.ts';
import type { Outbox } from './outbox.ts';
import { NO_SLOT, type SharedState } from './shared-state.ts';

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

/** What sealing adds to a plaintext. */
const OVERHEAD = TRANSPORT_HEADER_LENGTH + TAG_LENGTH;

export interface SealerParts {
  /** Of workers, from 0. */
  readonly pair: number;
  readonly arena: Arena;
  readonly aead: Aead;
  readonly state: SharedState;
  readonly counters: Counters<EgressCounter>;
  readonly outbox: Outbox;
}

export class Sealer {
  readonly #parts: SealerParts;
  readonly #memory: PacketMemory;
  readonly #key: KeyCache;

  /** `memory` is the arena's. */
  constructor(parts: SealerParts, memory: PacketMemory) {
    this.#parts = parts;
    this.#memory = memory;
    this.#key = new KeyCache(parts.arena, parts.state);
  }

  get aeadTier(): AeadTier {
    return this.#parts.aead.tier;
  }

  /** The peer's keypair, or NO_SLOT if it is too old or has not enough counters left. `now`: monotonic, ms. */
  usableKeypair(peer: number, messages: number, now: number): number {
    const { state } = this.#parts;
    const slot = state.keypairToSealWith(peer);
    if (slot === NO_SLOT) return NO_SLOT;
    if (now - state.createdAtOf(slot) >= REJECT_AFTER_TIME_MS) return NO_SLOT;
    return state.sendCounterOf(slot) + messages <= REJECT_AFTER_MESSAGES ? slot : NO_SLOT;
  }

  /** The packet that the segmenter has begun with. `isSparse`: it may overtake where it arrives. */
  sealPacket(peer: number, keypair: number, segmenter: Segmenter, isSparse: boolean, now: number): void {
    const { aead, state, counters, outbox, pair } = this.#parts;
    const key = this.#key.sendKey(keypair);
    const remoteIndex = state.remoteIndexOf(keypair);
    const dscp = isSparse ? LOW_LATENCY_CLASS : 0;
    const trafficClass = enterTunnel(segmenter.ip.trafficClass & ECN_MASK) | dscp;
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
    state.countSent(pair, peer, bytes + count * OVERHEAD, now, true);
    counters.add(counters.at.packets, count);
    if (count > 1) counters.add(counters.at['super-packets'], 1);
  }

  /** `at`: where there is room to seal from, as for a packet. */
  sendKeepalive(peer: number, at: number, now: number): void {
    this.#sendOwn(peer, at, 0, now);
  }

  /** Of a path's MTU. It is no data: nobody is asked to answer it by more than its answer. `length`: B, before sealing. */
  sendProbe(peer: number, kind: number, sequence: number, length: number, at: number, now: number): void {
    const { outbox } = this.#parts;
    writePathProbe(this.#memory, at, length, kind, sequence);
    outbox.beginProbe();
    this.#sendOwn(peer, at, length, now);
    outbox.endProbe();
  }

  /** What lies at `at`, and is none of anybody's packets. */
  #sendOwn(peer: number, at: number, length: number, now: number): void {
    const { aead, state, outbox, pair } = this.#parts;
    const keypair = this.usableKeypair(peer, 1, now);
    if (keypair === NO_SLOT || !state.paths.hasAny(peer)) return;
    const counter = state.takeCounters(keypair, 1);
    const to = outbox.place(length);
    aead.seal(this.#key.sendKey(keypair), counter, at, length, to);
    outbox.add(peer, state.remoteIndexOf(keypair), counter, length, NOT_ECT);
    state.countSent(pair, peer, length + OVERHEAD, now, false);
  }

  /** Wipes its copy of a key that main has retired. */
  wipeIfRetired(): void {
    this.#key.wipeIfRetired();
  }

  wipe(): void {
    this.#key.wipe();
  }
}
