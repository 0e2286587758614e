// The in-memory twin of a TUN: packets that come out of the tunnel wait here to be read by whoever plays the host.

import type { Inside } from './plane.ts';

export class MemoryTun implements Inside {
  #delivered: Uint8Array[] = [];

  deliver(packet: Uint8Array): void {
    this.#delivered.push(packet);
  }

  /** Takes what was delivered since the last call. */
  take(): Uint8Array[] {
    const delivered = this.#delivered;
    this.#delivered = [];
    return delivered;
  }
}
