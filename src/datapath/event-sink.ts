// A worker's way to tell the main thread something: entries of a ring, and one message to wake it up. Bounded: false
// means the ring was full, and the worker says it again when there is another reason to.

import type { MessagePort } from 'node:worker_threads';
import { Ring, type RingMemory } from './ring.ts';
import { PATH_LENGTH } from './sockaddr.ts';
import {
  EVENT_DEVICE_LOST,
  EVENT_ENDPOINT_MOVED,
  EVENT_HANDSHAKE_NEEDED,
  EVENT_KEYPAIR_CONFIRMED,
  EVENT_LOCAL_INDEX,
  EVENT_PATH,
  EVENT_PEER,
  EVENT_PROBE,
  EVENT_PROBE_ANSWERED,
  type WorkerMessage,
} from './worker-protocol.ts';

const WAKE: WorkerMessage = { kind: 'wake' };

export class EventSink {
  readonly #ring: Ring;
  readonly #port: MessagePort;
  #isWakeDue = false;
  /** By when, in ms of the monotonic clock. */
  #wakeBy = Number.POSITIVE_INFINITY;

  constructor(memory: RingMemory, port: MessagePort) {
    this.#ring = new Ring(memory);
    this.#port = port;
  }

  handshakeNeeded(peer: number): boolean {
    return this.#push(EVENT_HANDSHAKE_NEEDED, peer, 0);
  }

  keypairConfirmed(peer: number, localIndex: number): boolean {
    return this.#push(EVENT_KEYPAIR_CONFIRMED, peer, localIndex);
  }

  /** `path` is an offset in `bytes`. */
  endpointMoved(peer: number, bytes: Uint8Array, path: number): boolean {
    const entry = this.#ring.reserve();
    if (entry < 0) return false;
    for (let i = 0; i < PATH_LENGTH; i++) this.#ring.bytes[entry + EVENT_PATH + i] = bytes[path + i] ?? 0;
    return this.#push(EVENT_ENDPOINT_MOVED, peer, 0);
  }

  /** Of a path's MTU: one that the peer has sent, or its answer to ours. */
  probe(peer: number, sequence: number, isAnswer: boolean): boolean {
    return this.#push(isAnswer ? EVENT_PROBE_ANSWERED : EVENT_PROBE, peer, sequence);
  }

  deviceLost(device: number): boolean {
    return this.#push(EVENT_DEVICE_LOST, device, 0);
  }

  /** Main should look. */
  wakeLater(): void {
    this.#isWakeDue = true;
  }

  /** Main should look, by then at the latest: what wakes it earlier does for this, too. `by`: ms of the monotonic clock. */
  wakeBy(by: number): void {
    if (by < this.#wakeBy) this.#wakeBy = by;
  }

  /** Whether something waits for `flush` to be called at a time. */
  get isWakePlanned(): boolean {
    return this.#wakeBy !== Number.POSITIVE_INFINITY;
  }

  /** How long it may wait from `now` on, in whole ms; undefined: nothing waits. */
  patience(now: number): number | undefined {
    return this.isWakePlanned ? Math.max(0, Math.ceil(this.#wakeBy - now)) : undefined;
  }

  /**
   * Wakes main if there is a reason: once a batch, and not again before it has woken, or messages would pile up. `now`: what is
   * planned for later is left until then; without it, too.
   */
  flush(now = Number.NEGATIVE_INFINITY): void {
    if (!this.#isWakeDue && now < this.#wakeBy) return;
    this.#isWakeDue = false;
    this.#wakeBy = Number.POSITIVE_INFINITY;
    if (this.#ring.claimWakeUp()) this.#port.postMessage(WAKE);
  }

  #push(kind: number, peer: number, localIndex: number): boolean {
    const entry = this.#ring.reserve();
    if (entry < 0) return false;
    const { view } = this.#ring;
    view.setUint32(entry, kind, true);
    view.setInt32(entry + EVENT_PEER, peer, true);
    view.setUint32(entry + EVENT_LOCAL_INDEX, localIndex, true);
    this.#ring.commit();
    this.#isWakeDue = true;
    return true;
  }
}
