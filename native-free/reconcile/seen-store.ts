// The registry's store that this node last heard of, and the highest revision of it, over restarts: said with every
// heartbeat, so that a registry that lost memory is told by whoever knows more.

import { fromBase64, toBase64 } from '../base64.ts';
import type { DocumentStore } from './document-store.ts';
import { REGISTRY } from './documents.ts';

export interface StorePosition {
  readonly storeId: string;
  readonly revision: bigint;
  /** The registry's own word for both, without which it believes neither. Empty: it gave none. */
  readonly stamp: Uint8Array;
}

/** Of the own domain's registry, or of a partner's. */
const nameOf = (domain: string | undefined): string => (domain === undefined ? 'seen' : `seen@${domain}`);

export class SeenStore {
  readonly #documents: DocumentStore;
  readonly #name: string;
  #position: StorePosition;
  #saved: StorePosition;
  /** Where the store went back to, until the registry has been told how far it was. */
  #wentBackTo: StorePosition | undefined;

  /** `domain`: whose registry it is; undefined: the own. */
  constructor(documents: DocumentStore, domain?: string) {
    this.#documents = documents;
    this.#name = nameOf(domain);
    const saved = documents.get(REGISTRY, this.#name);
    this.#position =
      saved === undefined
        ? NOWHERE
        : {
            storeId: saved.storeId,
            revision: BigInt(saved.revision),
            stamp: fromBase64(saved.stamp ?? ''),
          };
    this.#saved = this.#position;
  }

  /** To be told to the registry. */
  get position(): StorePosition {
    return this.#position;
  }

  /** A watch is at this position. `wentBack`: it was further before. True when it is another store than before. */
  watched(step: StorePosition, wentBack: boolean): boolean {
    const { storeId, revision, stamp } = step;
    const position: StorePosition = { storeId, revision, stamp: bounded(stamp) };
    const isOther = this.#isOther(storeId);
    if (storeId !== this.#position.storeId) {
      this.#position = position;
      this.#wentBackTo = undefined;
    } else if (wentBack || this.#wentBackTo !== undefined) {
      this.#wentBackTo = later(this.#wentBackTo, position);
    } else {
      this.#position = later(this.#position, position);
    }
    return isOther;
  }

  /** The registry answered, after it was told `told`. `stamp`: of revision 0. True when it has another store than before. */
  answered({ storeId, stamp }: Omit<StorePosition, 'revision'>, told: StorePosition): boolean {
    const isOther = this.#isOther(storeId);
    if (storeId !== this.#position.storeId) {
      this.#position = { storeId, revision: 0n, stamp: bounded(stamp) };
      this.#wentBackTo = undefined;
    } else if (this.#wentBackTo !== undefined && told.revision === this.#position.revision) {
      this.#position = this.#wentBackTo;
      this.#wentBackTo = undefined;
    }
    return isOther;
  }

  /** Writes it down; cheap when nothing changed. */
  checkpoint(): void {
    if (this.#position === this.#saved) return;
    const { storeId, revision, stamp } = this.#position;
    this.#documents.put(REGISTRY, this.#name, {
      storeId,
      revision: String(revision),
      stamp: toBase64(stamp),
    });
    this.#saved = this.#position;
  }

  /** Nothing is known of that registry any more. */
  forget(): void {
    this.#documents.delete(REGISTRY, this.#name);
  }

  #isOther(storeId: string): boolean {
    return this.#position.storeId !== '' && storeId !== this.#position.storeId;
  }
}

const NO_STAMP = new Uint8Array(0);
/** A registry that gives more gives none. */
const MAX_STAMP = 64;

const bounded = (stamp: Uint8Array): Uint8Array => (stamp.length > MAX_STAMP ? NO_STAMP : stamp);

const NOWHERE: StorePosition = { storeId: '', revision: 0n, stamp: NO_STAMP };

/** Of one revision the later word: the one before may have been without a stamp. */
const later = (before: StorePosition | undefined, now: StorePosition): StorePosition => {
  if (before === undefined || now.revision > before.revision) return now;
  return now.revision === before.revision && before.stamp.length === 0 ? now : before;
};
