// The registry's store that this node last heard of, and the highest revision of it, over restarts: said with every
// heartbeat, so that a registry that lost memory is told by whoever knows more.

import { REGISTRY } from './documents.ts';
import type { AgentState } from './state.ts';

export interface StorePosition {
  readonly storeId: string;
  readonly revision: bigint;
}

const NAME = 'seen';

export class SeenStore {
  readonly #state: AgentState;
  #position: StorePosition;
  #saved: StorePosition;
  /** Where the store went back to, until the registry has been told how far it was. */
  #wentBackTo: bigint | undefined;

  constructor(state: AgentState) {
    this.#state = state;
    const saved = state.get(REGISTRY, NAME);
    this.#position =
      saved === undefined ? NOWHERE : { storeId: saved.storeId, revision: BigInt(saved.revision) };
    this.#saved = this.#position;
  }

  /** To be told to the registry. */
  get position(): StorePosition {
    return this.#position;
  }

  /** A watch is at this position. `wentBack`: it was further before. True when it is another store than before. */
  watched({ storeId, revision }: StorePosition, wentBack: boolean): boolean {
    const isOther = this.#isOther(storeId);
    if (storeId !== this.#position.storeId) {
      this.#position = { storeId, revision };
      this.#wentBackTo = undefined;
    } else if (wentBack || this.#wentBackTo !== undefined) {
      this.#wentBackTo = max(this.#wentBackTo ?? 0n, revision);
    } else {
      this.#position = { storeId, revision: max(this.#position.revision, revision) };
    }
    return isOther;
  }

  /** The registry answered, after it was told `told`. True when it has another store than before. */
  answered(storeId: string, told: StorePosition): boolean {
    const isOther = this.#isOther(storeId);
    if (storeId !== this.#position.storeId) {
      this.#position = { storeId, revision: 0n };
      this.#wentBackTo = undefined;
    } else if (this.#wentBackTo !== undefined && told.revision === this.#position.revision) {
      this.#position = { storeId, revision: this.#wentBackTo };
      this.#wentBackTo = undefined;
    }
    return isOther;
  }

  /** Writes it down; cheap when nothing changed. */
  checkpoint(): void {
    const { storeId, revision } = this.#position;
    if (storeId === this.#saved.storeId && revision === this.#saved.revision) return;
    this.#state.put(REGISTRY, NAME, { storeId, revision: String(revision) });
    this.#saved = this.#position;
  }

  #isOther(storeId: string): boolean {
    return this.#position.storeId !== '' && storeId !== this.#position.storeId;
  }
}

const NOWHERE: StorePosition = { storeId: '', revision: 0n };

const max = (a: bigint, b: bigint): bigint => (a > b ? a : b);
