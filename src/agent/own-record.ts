// What this node's record on one network says, and under which sequence.

import type { SavedNetwork } from '../../native-free/reconcile/saved-network.ts';
import { nextSequence } from '../../native-free/registry/record.ts';
import { toBase64 } from '../base64.ts';
import type { Tunnel } from '../device/tunnel.ts';
import type { RecordContent } from '../identity/record-signer.ts';
import type { NamesBook } from '../names/names-book.ts';
import type { Clock } from './clock.ts';
import type { RecordBook } from './record-book.ts';
import type { SeenSurroundings } from './surroundings.ts';

export interface OwnRecordDeps {
  readonly saved: SavedNetwork;
  /** Whose the network is. */
  readonly home: string;
  readonly tunnel: Tunnel;
  readonly book: RecordBook;
  readonly namesBook: NamesBook;
  readonly surroundings: SeenSurroundings;
  readonly clock: Clock;
}

export class OwnRecord {
  readonly #deps: OwnRecordDeps;

  constructor(deps: OwnRecordDeps) {
    this.#deps = deps;
  }

  /** What it says now, but for the sequence. */
  content(): Omit<RecordContent, 'sequence'> {
    const { saved, home, tunnel, surroundings, clock } = this.#deps;
    return {
      network: saved.document.name,
      networkUid: saved.document.uid,
      home,
      publicKey: toBase64(tunnel.publicKey),
      prefixes: saved.claims(clock.moment()),
      endpoints: surroundings.endpoints,
    };
  }

  /** Of a record, and of its names: above all that were used, written down before it is returned. */
  nextSequence(): number {
    const { saved, book, namesBook, clock } = this.#deps;
    const heard = Math.max(book.ownSequence, namesBook.ownSequence);
    const recordSequence = nextSequence(saved.document.recordSequence, heard, clock.wall());
    saved.change({ recordSequence });
    return recordSequence;
  }
}
