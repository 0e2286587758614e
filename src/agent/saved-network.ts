// The document of a network this node is on, as its parts share it while the network is up: read from memory, and every
// change written down before it counts.

import { Vl3Error } from '../../native-free/error.ts';
import { type Prefix, parsePrefix } from '../../native-free/ipam/prefix.ts';
import { NETWORK, type NetworkDocument } from './documents.ts';
import type { AgentState } from './state.ts';

export class SavedNetwork {
  readonly name: string;
  readonly #state: AgentState;
  #document: NetworkDocument;

  /** Throws when nothing was saved under the name. */
  constructor(name: string, state: AgentState) {
    const document = state.get(NETWORK, name);
    if (document === undefined) throw new Vl3Error('internal', `there is no document of ${name}`);
    this.name = name;
    this.#state = state;
    this.#document = document;
  }

  get document(): NetworkDocument {
    return this.#document;
  }

  change(change: Partial<NetworkDocument>): void {
    const document = { ...this.#document, ...change };
    this.#state.put(NETWORK, this.name, document);
    this.#document = document;
  }

  /** All writes of `work` are kept, or none, and then nothing has changed here either. */
  transact(work: () => void): void {
    const before = this.#document;
    try {
      this.#state.transact(work);
    } catch (error) {
      this.#document = before;
      throw error;
    }
  }

  get pools(): Prefix[] {
    const { poolV4, poolV6 } = this.#document;
    return [poolV4, poolV6].filter((pool) => pool !== '').map(parsePrefix);
  }

  /** What this node leases, oldest first. */
  get prefixes(): Prefix[] {
    return this.#document.leases.map(({ prefix }) => parsePrefix(prefix));
  }

  get excluded(): Prefix[] {
    return this.#document.excludedPrefixes.map(parsePrefix);
  }
}
