// Who has which peer slot, on the main thread: (device, peer id) to a small integer and back. A slot that is given back
// is reused only after all workers have taken over the configuration that no longer names it.

import type { PeerId } from '../../native-free/device/data-plane.ts';

export interface PeerSlot {
  readonly slot: number;
  readonly deviceId: string;
  readonly peerId: PeerId;
}

export class PeerSlots {
  readonly max: number;
  readonly #bySlot: (PeerSlot | undefined)[] = [];
  #free: number[] = [];
  #unused = 0;
  #taken = 0;
  /** Those that wait for the same stand together. */
  #retired: { readonly slots: number[]; readonly mayReuse: () => boolean }[] = [];

  /** Room for `max` peers, and as many slots again for those that have gone and may not be reused yet. */
  constructor(max: number) {
    this.max = max;
  }

  /** How many slots there have to be for so many peers. */
  static slotsFor(max: number): number {
    return 2 * max;
  }

  /** How many peers there is room for. */
  get room(): number {
    return this.max - this.#taken;
  }

  get(slot: number): PeerSlot | undefined {
    return this.#bySlot[slot];
  }

  /** Undefined when all are taken. */
  take(deviceId: string, peerId: PeerId): PeerSlot | undefined {
    this.#reap();
    if (this.room === 0) return undefined;
    const slot = this.#free.pop() ?? this.#unused;
    if (slot === PeerSlots.slotsFor(this.max)) return undefined;
    this.#taken += 1;
    if (slot === this.#unused) this.#unused += 1;
    const peer = { slot, deviceId, peerId };
    this.#bySlot[slot] = peer;
    return peer;
  }

  giveBack(slot: number, mayReuse: () => boolean): void {
    this.#bySlot[slot] = undefined;
    this.#taken -= 1;
    const last = this.#retired.at(-1);
    if (last?.mayReuse === mayReuse) last.slots.push(slot);
    else this.#retired.push({ slots: [slot], mayReuse });
  }

  #reap(): void {
    this.#retired = this.#retired.filter(({ slots, mayReuse }) => {
      if (!mayReuse()) return true;
      for (const slot of slots) this.#free.push(slot);
      return false;
    });
  }
}
