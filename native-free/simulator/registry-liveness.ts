// Who is alive, as the simulated registry knows it: store leases that heartbeats renew, and that end by themselves. What the
// process knew of them is gone when it dies; they then get their full term again.

import { Vl3Error } from '../error.ts';
import { keys, one } from '../registry/keys.ts';
import { heartbeat } from '../registry/node-rules.ts';
import { State } from '../registry/state.ts';
import type { ReadResult } from '../registry/transaction.ts';
import type { DurableStore } from './durable-store.ts';
import type { Scheduler } from './scheduler.ts';

export interface RegistryLivenessDependencies {
  readonly store: DurableStore;
  readonly scheduler: Scheduler;
  readonly ttlMs: number;
  /** Unix ms. */
  readonly now: () => number;
}

export class RegistryLiveness {
  readonly #dependencies: RegistryLivenessDependencies;
  /** When they end. */
  readonly #leases = new Map<string, number>();
  #granted = 0;

  constructor(dependencies: RegistryLivenessDependencies) {
    this.#dependencies = dependencies;
  }

  /** What the store had at the start. */
  load({ entries }: ReadResult): void {
    const { scheduler, ttlMs } = this.#dependencies;
    for (const { lease } of entries) if (lease !== undefined) this.#leases.set(lease, scheduler.now + ttlMs);
  }

  beat(node: string, observedAddress: string): void {
    const { store, scheduler, ttlMs, now } = this.#dependencies;
    const ranges = [one(keys.liveness(node))];
    const stored = new State(ranges, store.read(ranges)).liveness(node)?.lease;
    const isKnown = stored !== undefined && this.#leases.has(stored);
    const lease = isKnown ? stored : `${scheduler.now}-${++this.#granted}`;
    this.#leases.set(lease, scheduler.now + ttlMs);
    store.run(heartbeat(node, lease, { agentVersion: 'simulated', observedAddress }, now()));
  }

  /** Ends those whose time is over. */
  check(): void {
    const { store, scheduler } = this.#dependencies;
    const { now } = scheduler;
    const ended = [...this.#leases].filter(([, deadline]) => deadline <= now).map(([lease]) => lease);
    for (const lease of ended) this.#leases.delete(lease);
    try {
      if (ended.length > 0) store.commit(store.keys.prepareEnd(ended));
    } catch (error) {
      if (!(error instanceof Vl3Error)) throw error;
      for (const lease of ended) this.#leases.set(lease, now);
    }
  }
}
