// The document of a network a simulated node is on, shared by its parts: read from memory, and every change written down
// before it counts. The twin of src/agent/saved-network.ts.

import { Vl3Error } from '../error.ts';
import { type Prefix, parsePrefix } from '../ipam/prefix.ts';
import { type Documents, NETWORK, type SavedNetwork } from './documents.ts';

export class SharedNetwork {
  readonly name: string;
  readonly #documents: Documents;
  #document: SavedNetwork;

  /** Throws when nothing was saved under the name. */
  constructor(name: string, documents: Documents) {
    const document = documents.get(NETWORK, name);
    if (document === undefined) throw new Vl3Error('internal', `there is no document of ${name}`);
    this.name = name;
    this.#documents = documents;
    this.#document = document;
  }

  get document(): SavedNetwork {
    return this.#document;
  }

  change(change: Partial<SavedNetwork>): void {
    const document = { ...this.#document, ...change };
    this.#documents.put(NETWORK, this.name, document);
    this.#document = document;
  }

  /** All writes are kept, or none, and then nothing has changed here either. */
  transact(work: () => void): void {
    const before = this.#document;
    try {
      this.#documents.transact(work);
    } catch (error) {
      this.#document = before;
      throw error;
    }
  }

  get pools(): Prefix[] {
    return this.#document.pools.map(parsePrefix);
  }

  get excluded(): Prefix[] {
    return this.#document.excluded.map(parsePrefix);
  }
}
