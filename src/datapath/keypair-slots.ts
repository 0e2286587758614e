// Who has which keypair slot, on the main thread. A slot that is given back is out of sight at once, wiped and reused
// only after all workers have been outside their loops since.

import type { Keypair } from '../../native-free/device/data-plane.ts';
import type { SharedState } from './shared-state.ts';

interface Retired {
  readonly slot: number;
  readonly epochs: readonly number[];
}

export class KeypairSlots {
  readonly #state: SharedState;
  readonly #byIndex = new Map<number, { readonly slot: number; readonly peer: number }>();
  #free: number[] = [];
  #unused = 0;
  #retired: Retired[] = [];
  #generation = 0;

  constructor(state: SharedState) {
    this.#state = state;
  }

  /**
   * Borrows the keypair. False when all slots are taken: then it is as if the handshake had not been, and another is asked
   * for when there is something to send. Handshakes come from outside, so they must not throw.
   */
  install(peer: number, keypair: Keypair): boolean {
    if (this.#byIndex.has(keypair.localIndex)) this.remove(keypair.localIndex);
    const slot = this.#take();
    if (slot === undefined) return false;
    this.#generation = (this.#generation % 0x7fff_ffff) + 1;
    this.#byIndex.set(keypair.localIndex, { slot, peer });
    this.#state.installKeypair(
      slot,
      this.#generation,
      peer,
      keypair.localIndex,
      keypair.remoteIndex,
      keypair.createdAt,
      keypair.sendKey,
      keypair.receiveKey,
    );
    return true;
  }

  /** The slot of an installed keypair of this peer. */
  slotOf(localIndex: number, peer: number): number | undefined {
    const entry = this.#byIndex.get(localIndex);
    return entry?.peer === peer ? entry.slot : undefined;
  }

  remove(localIndex: number): void {
    const entry = this.#byIndex.get(localIndex);
    if (entry === undefined) return;
    this.#byIndex.delete(localIndex);
    if (this.#state.keypairInUse(entry.peer) === entry.slot) this.#state.setKeypairInUse(entry.peer, -1);
    this.#state.retireKeypair(entry.slot);
    this.#retired.push({ slot: entry.slot, epochs: this.#state.epochs() });
  }

  removeAllOf(peer: number): void {
    for (const [localIndex, entry] of this.#byIndex) if (entry.peer === peer) this.remove(localIndex);
  }

  /** Wipes what can be wiped; true when nothing is left to do. */
  reap(): boolean {
    this.#retired = this.#retired.filter((retired) => {
      const hasPassed = this.#state.havePassed(retired.epochs);
      if (hasPassed) {
        this.#state.wipeKeypair(retired.slot);
        this.#free.push(retired.slot);
      }
      return !hasPassed;
    });
    return this.#retired.length === 0;
  }

  /** Wipes everything. Only when the workers are gone. */
  wipeAll(): void {
    for (const localIndex of [...this.#byIndex.keys()]) this.remove(localIndex);
    for (const { slot } of this.#retired) this.#state.wipeKeypair(slot);
    this.#retired = [];
  }

  #take(): number | undefined {
    this.reap();
    const slot = this.#free.pop();
    if (slot !== undefined) return slot;
    return this.#unused === this.#state.maxKeypairs ? undefined : this.#unused++;
  }
}
