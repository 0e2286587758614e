// Where each peer is and by which of our addresses it is reached, in shared memory: what main has decided, and where ingress
// has heard it since. Each has one writer and is published under a sequence number. The layout is drawn in shared-state.ts.

import { PATH_LENGTH, SOCKADDR_LENGTH } from './sockaddr.ts';

const SOCKADDR_WORDS = SOCKADDR_LENGTH >> 2;
const PATH_WORDS = PATH_LENGTH >> 2;

// Offsets in a peer.
const ENDPOINT_SEQUENCE = 64;
const ENDPOINT_PATH = 68;
const REFUSED_SEQUENCE = 112;
const HEARD_SEQUENCE = 200;
const HEARD_PATH = 204;
const HEARD_FOLLOWS = 248;

export class PeerPaths {
  readonly #i32: Int32Array;
  readonly #first: number;
  readonly #stride: number;

  /** In the memory peer 0 is at `first`, and each other one `stride` bytes after the one before. */
  constructor(memory: SharedArrayBuffer, first: number, stride: number) {
    this.#i32 = new Int32Array(memory);
    this.#first = first;
    this.#stride = stride;
  }

  /** Main: 44 bytes as by encodePath, or undefined for none. Borrows them. */
  setEndpoint(peer: number, path: Uint8Array | undefined): void {
    const at = this.#at(peer);
    const sequence = (at + ENDPOINT_SEQUENCE) >> 2;
    Atomics.add(this.#i32, sequence, 1);
    const words = (at + ENDPOINT_PATH) >> 2;
    const view = path === undefined ? undefined : new DataView(path.buffer, path.byteOffset, path.length);
    for (let i = 0; i < PATH_WORDS; i++)
      Atomics.store(this.#i32, words + i, view === undefined ? 0 : view.getInt32(i * 4, true));
    Atomics.add(this.#i32, sequence, 1);
  }

  /**
   * Ingress: an authentic packet of the peer came by the path in `view` at `offset`. Where a peer changes from one ingress
   * worker to another and both would write, one of them does: the next packet says it again.
   */
  setHeard(peer: number, view: DataView, offset: number): void {
    const at = this.#at(peer);
    const sequence = (at + HEARD_SEQUENCE) >> 2;
    const words = (at + HEARD_PATH) >> 2;
    const follows = Atomics.load(this.#i32, (at + ENDPOINT_SEQUENCE) >> 2);
    const before = Atomics.load(this.#i32, sequence);
    if ((before & 1) === 1 || Atomics.compareExchange(this.#i32, sequence, before, before + 1) !== before)
      return;
    for (let i = 0; i < PATH_WORDS; i++)
      Atomics.store(this.#i32, words + i, view.getInt32(offset + i * 4, true));
    Atomics.store(this.#i32, (at + HEARD_FOLLOWS) >> 2, follows);
    Atomics.add(this.#i32, sequence, 1);
  }

  /**
   * Egress: copies the path (44 bytes) to send by into `view` at `offset`: where the peer was heard, if that is newer than
   * its endpoint. The first two bytes are 0 when there is none; the address of ours is, when any will do.
   */
  read(peer: number, view: DataView, offset: number): void {
    const at = this.#at(peer);
    if (this.#isHeardNewer(at)) this.#copy(at, HEARD_SEQUENCE, HEARD_PATH, view, offset);
    else this.#copy(at, ENDPOINT_SEQUENCE, ENDPOINT_PATH, view, offset);
    if (Atomics.load(this.#i32, (at + REFUSED_SEQUENCE) >> 2) !== this.#sequences(at)) return;
    for (let i = SOCKADDR_WORDS; i < PATH_WORDS; i++) view.setInt32(offset + i * 4, 0, true);
  }

  /** Egress: the kernel does not send from that address of ours any more; it picks one until another path is known. */
  refuseLocal(peer: number): void {
    const at = this.#at(peer);
    Atomics.store(this.#i32, (at + REFUSED_SEQUENCE) >> 2, this.#sequences(at));
  }

  /** Main: the slot is a new peer's. */
  reset(peer: number): void {
    this.setEndpoint(peer, undefined);
    Atomics.store(this.#i32, (this.#at(peer) + REFUSED_SEQUENCE) >> 2, 0);
  }

  /** Changes with either path; never 0 once one was set. */
  #sequences(at: number): number {
    const endpoint = Atomics.load(this.#i32, (at + ENDPOINT_SEQUENCE) >> 2);
    return (endpoint + Atomics.load(this.#i32, (at + HEARD_SEQUENCE) >> 2)) | 0;
  }

  #isHeardNewer(at: number): boolean {
    const follows = Atomics.load(this.#i32, (at + HEARD_FOLLOWS) >> 2);
    return follows === Atomics.load(this.#i32, (at + ENDPOINT_SEQUENCE) >> 2);
  }

  #copy(peerAt: number, sequenceAt: number, pathAt: number, view: DataView, offset: number): void {
    const sequence = (peerAt + sequenceAt) >> 2;
    const words = (peerAt + pathAt) >> 2;
    for (;;) {
      const before = Atomics.load(this.#i32, sequence);
      for (let i = 0; i < PATH_WORDS; i++)
        view.setInt32(offset + i * 4, Atomics.load(this.#i32, words + i), true);
      if ((before & 1) === 0 && Atomics.load(this.#i32, sequence) === before) return;
    }
  }

  /** Egress: whether there is anywhere to send to. */
  hasAny(peer: number): boolean {
    const at = this.#at(peer);
    const path = at + (this.#isHeardNewer(at) ? HEARD_PATH : ENDPOINT_PATH);
    // The family, in the first two bytes.
    return (Atomics.load(this.#i32, path >> 2) & 0xffff) !== 0;
  }

  /** Whether main's sockaddr of the peer is the one in `view` at `offset`. False while it is being changed. */
  hasEndpoint(peer: number, view: DataView, offset: number): boolean {
    return this.#isSame(this.#at(peer) + ENDPOINT_PATH, SOCKADDR_WORDS, view, offset);
  }

  /** Ingress: whether egress sends by the path in `view` at `offset`. */
  isSentBy(peer: number, view: DataView, offset: number): boolean {
    const at = this.#at(peer);
    const path = at + (this.#isHeardNewer(at) ? HEARD_PATH : ENDPOINT_PATH);
    return this.#isSame(path, PATH_WORDS, view, offset);
  }

  #isSame(at: number, words: number, view: DataView, offset: number): boolean {
    for (let i = 0; i < words; i++)
      if (Atomics.load(this.#i32, (at >> 2) + i) !== view.getInt32(offset + i * 4, true)) return false;
    return true;
  }

  #at(peer: number): number {
    return this.#first + peer * this.#stride;
  }
}
