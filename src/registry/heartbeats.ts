// Liveness: a node's heartbeats renew one store lease, whose end deletes /liveness/<node>. Only a first heartbeat, a
// changed one or one a minute writes; the exact time of the last is remembered here.

import { keys, one } from '../../native-free/registry/keys.ts';
import { heartbeat } from '../../native-free/registry/node-rules.ts';
import { printable } from './printable.ts';
import type { Store } from './store.ts';
import type { Transactor } from './transactor.ts';

const MAX_VERSION = 64;

export interface HeartbeatsOptions {
  readonly ttlMs: number;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
}

export class Heartbeats {
  readonly #options: HeartbeatsOptions;
  readonly #store: Store;
  readonly #transactor: Transactor;
  readonly #leases = new Map<string, string>();
  readonly #seenAt = new Map<string, number>();

  constructor(options: HeartbeatsOptions, deps: { readonly store: Store; readonly transactor: Transactor }) {
    this.#options = options;
    this.#store = deps.store;
    this.#transactor = deps.transactor;
  }

  get ttlMs(): number {
    return this.#options.ttlMs;
  }

  async beat(
    node: string,
    seen: { readonly agentVersion: string; readonly observedAddress: string },
  ): Promise<void> {
    const now = this.#options.now();
    const since = now - (this.#seenAt.get(node) ?? 0);
    // Whoever floods with beats gets nothing written for them.
    if (this.#leases.has(node) && since >= 0 && since < this.#options.ttlMs / 20) return;
    const lease = await this.#renewedLease(node);
    const agentVersion = printable(seen.agentVersion, MAX_VERSION);
    await this.#transactor.run(heartbeat(node, lease, { ...seen, agentVersion }, now));
    this.#leases.set(node, lease);
    this.#seenAt.set(node, now);
  }

  /** When this process last heard the node, if it did. */
  lastSeenAt(node: string): number | undefined {
    return this.#seenAt.get(node);
  }

  forget(node: string): void {
    this.#leases.delete(node);
    this.#seenAt.delete(node);
  }

  async #renewedLease(node: string): Promise<string> {
    const known = this.#leases.get(node);
    if (known !== undefined && (await this.#store.keepAlive(known))) return known;
    const state = await this.#transactor.read([one(keys.liveness(node))]);
    const stored = state.liveness(node)?.lease;
    if (stored !== undefined && stored !== known && (await this.#store.keepAlive(stored))) return stored;
    return await this.#store.grantLease(this.#options.ttlMs);
  }
}
