// A worker's copy of the one key that it used last, in its own arena where the AEAD reads it. Copied when the keypair
// changes, wiped when the keypair is retired or the worker ends.

import type { Arena } from '../ffi/memory.ts';
import { KEY_LENGTH, NO_SLOT, type SharedState } from './shared-state.ts';

export class KeyCache {
  readonly #bytes: Uint8Array;
  readonly #state: SharedState;
  readonly #offset: number;
  #slot = NO_SLOT;
  #generation = 0;

  constructor(arena: Arena, state: SharedState) {
    this.#bytes = arena.bytes;
    this.#state = state;
    this.#offset = arena.allocate(KEY_LENGTH);
  }

  /** The offset of the keypair's sending key. A cache serves one direction only. */
  sendKey(slot: number): number {
    if (!this.#holds(slot)) this.#state.copySendKey(slot, this.#bytes, this.#offset);
    return this.#offset;
  }

  receiveKey(slot: number): number {
    if (!this.#holds(slot)) this.#state.copyReceiveKey(slot, this.#bytes, this.#offset);
    return this.#offset;
  }

  wipeIfRetired(): void {
    if (this.#slot === NO_SLOT) return;
    if (this.#generation === 0 || this.#state.generationOf(this.#slot) !== this.#generation) this.wipe();
  }

  wipe(): void {
    this.#bytes.fill(0, this.#offset, this.#offset + KEY_LENGTH);
    this.#slot = NO_SLOT;
  }

  /**
   * Whether the copy is this keypair's; from now on it is taken to be. A keypair that main has just retired has the
   * generation 0, which names no keypair: the slot's last may have been another then.
   */
  #holds(slot: number): boolean {
    const generation = this.#state.generationOf(slot);
    if (slot === this.#slot && generation === this.#generation && generation !== 0) return true;
    this.#slot = slot;
    this.#generation = generation;
    return false;
  }
}
