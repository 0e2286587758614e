// The registry's store that a simulated node last heard of, and the highest revision of it, over restarts. The twin of
// src/agent/seen-store.ts.

import { type Documents, SEEN } from './documents.ts';
import type { WatchPosition } from './registry.ts';

const NAME = 'seen';
const NOWHERE: WatchPosition = { storeId: '', revision: 0 };

export class SimulatedSeenStore {
  readonly #documents: Documents;
  #position: WatchPosition;
  #saved: WatchPosition;
  /** Where the store went back to, until the registry has been told how far it was. */
  #wentBackTo: number | undefined;

  constructor(documents: Documents) {
    this.#documents = documents;
    this.#position = documents.get(SEEN, NAME) ?? NOWHERE;
    this.#saved = this.#position;
  }

  get position(): WatchPosition {
    return this.#position;
  }

  /** A watch is at this position. True when it is another store than before. */
  watched({ storeId, revision }: WatchPosition, wentBack: boolean): boolean {
    const isOther = this.#isOther(storeId);
    if (storeId !== this.#position.storeId) {
      this.#position = { storeId, revision };
      this.#wentBackTo = undefined;
    } else if (wentBack || this.#wentBackTo !== undefined) {
      this.#wentBackTo = Math.max(this.#wentBackTo ?? 0, revision);
    } else {
      this.#position = { storeId, revision: Math.max(this.#position.revision, revision) };
    }
    return isOther;
  }

  /** The registry answered, after it was told `told`. True when it has another store than before. */
  answered(storeId: string, told: WatchPosition): boolean {
    const isOther = this.#isOther(storeId);
    if (storeId !== this.#position.storeId) {
      this.#position = { storeId, revision: 0 };
      this.#wentBackTo = undefined;
    } else if (this.#wentBackTo !== undefined && told.revision === this.#position.revision) {
      this.#position = { storeId, revision: this.#wentBackTo };
      this.#wentBackTo = undefined;
    }
    return isOther;
  }

  checkpoint(): void {
    const { storeId, revision } = this.#position;
    if (storeId === this.#saved.storeId && revision === this.#saved.revision) return;
    this.#documents.put(SEEN, NAME, { storeId, revision });
    this.#saved = this.#position;
  }

  #isOther(storeId: string): boolean {
    return this.#position.storeId !== '' && storeId !== this.#position.storeId;
  }
}
