// Who has which peer slot, on the main thread: (device, peer id) to a small integer and back. A slot that is given back
// is reused only after both workers have taken over the configuration that no longer names it.

import type { PeerId } from '../../native-free/device/data-plane.ts';
import { Vl3Error } from '../../native-free/error.ts';

export interface PeerSlot {
  readonly slot: number;
  readonly deviceId: string;
  readonly peerId: PeerId;
}

export class PeerSlots {
  readonly #max: number;
  readonly #bySlot: (PeerSlot | undefined)[] = [];
  #free: number[] = [];
  #unused = 0;
  #retired: { readonly slot: number; readonly mayReuse: () => boolean }[] = [];

  constructor(max: number) {
    this.#max = max;
  }

  get(slot: number): PeerSlot | undefined {
    return this.#bySlot[slot];
  }

  take(deviceId: string, peerId: PeerId): PeerSlot {
    this.#reap();
    const slot = this.#free.pop() ?? this.#unused;
    if (slot === this.#max) {
      throw new Vl3Error('resource-exhausted', `all ${this.#max} peer slots of this node are taken`);
    }
    if (slot === this.#unused) this.#unused += 1;
    const peer = { slot, deviceId, peerId };
    this.#bySlot[slot] = peer;
    return peer;
  }

  giveBack(slot: number, mayReuse: () => boolean): void {
    this.#bySlot[slot] = undefined;
    this.#retired.push({ slot, mayReuse });
  }

  #reap(): void {
    this.#retired = this.#retired.filter(({ slot, mayReuse }) => {
      if (!mayReuse()) return true;
      this.#free.push(slot);
      return false;
    });
  }
}
