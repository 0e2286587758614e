// The simulated registry's watchers: each is told a snapshot of its network and then deltas, one message at a time, and is
// ended when it may not watch any more. The twin of src/registry/feed.ts.

import { NotEnrolled, Vl3Error } from '../error.ts';
import type { StorePosition } from '../reconcile/seen-store.ts';
import { foreignDomainOf } from '../registry/foreign-key.ts';
import type { PositionStamps } from '../registry/hearing.ts';
import type { Batch, ReadResult } from '../registry/transaction.ts';
import { type NetworkStep, RegistryView } from '../registry/view.ts';
import type { DurableStore } from './durable-store.ts';
import type { Pace } from './pace.ts';
import type { Scheduler } from './scheduler.ts';

/** Undefined `step`: nothing changed, the stream is alive. */
export interface WatchMessage extends StorePosition {
  readonly step: NetworkStep | undefined;
}

/** One stream: takes a message when it is ready for one, and is told when the registry ends it. */
export interface WatchSink {
  /** Carries a message; `delivered` is called when the next may come. */
  send(message: WatchMessage, delivered: () => void): void;
  end(reason: Vl3Error): void;
}

interface Watcher {
  readonly network: string;
  readonly node: string;
  readonly sink: WatchSink;
  seen: number | undefined;
  isBusy: boolean;
  spokeAt: number;
}

export interface FeedDependencies {
  readonly store: DurableStore;
  readonly stamps: PositionStamps & { readonly of: (revision: number) => Uint8Array };
  readonly scheduler: Scheduler;
  readonly pace: Pace;
}

export class SimulatedFeed {
  readonly #dependencies: FeedDependencies;
  readonly #view = new RegistryView();
  readonly #watchers = new Set<Watcher>();

  constructor(dependencies: FeedDependencies) {
    this.#dependencies = dependencies;
  }

  /** What the store had at the start. */
  load(found: ReadResult): void {
    this.#view.load(found);
  }

  isOnAnyNetwork(node: string): boolean {
    return this.#view.isOnAnyNetwork(node);
  }

  get watchers(): number {
    return this.#watchers.size;
  }

  /** The process is gone; its watchers hear nothing more. */
  died(): void {
    this.#watchers.clear();
  }

  /** Answers how to end it from the other side. Throws when the node may not watch. */
  watch(network: string, node: string, position: StorePosition | undefined, sink: WatchSink): () => void {
    const { store } = this.#dependencies;
    const known = position?.storeId === store.identity ? Number(position.revision) : 0;
    const watcher: Watcher = {
      network,
      node,
      sink,
      seen: known > 0 && known <= store.keys.revision ? known : undefined,
      isBusy: false,
      spokeAt: Number.NEGATIVE_INFINITY,
    };
    this.#mustStillWatch(watcher);
    this.#watchers.add(watcher);
    this.#pump(watcher);
    return () => this.#watchers.delete(watcher);
  }

  /** What the store has just written. `observed` is told in between: before any watcher is. */
  changed(batch: Batch, observed: (batch: Batch) => void): void {
    const touched = this.#view.apply(batch);
    observed(batch);
    for (const watcher of [...this.#watchers]) if (touched.has(watcher.network)) this.#pump(watcher);
  }

  /** Says to everyone who has heard nothing for a while that the stream is alive. */
  breathe(): void {
    for (const watcher of [...this.#watchers]) this.#pump(watcher);
  }

  #pump(watcher: Watcher): void {
    if (watcher.isBusy || !this.#watchers.has(watcher)) return;
    try {
      this.#mustStillWatch(watcher);
    } catch (error) {
      this.#watchers.delete(watcher);
      if (error instanceof Vl3Error) watcher.sink.end(error);
      else throw error;
      return;
    }
    const { network, seen } = watcher;
    const { scheduler, pace, store, stamps } = this.#dependencies;
    const step = seen === undefined ? this.#view.snapshot(network) : this.#view.since(network, seen);
    if (step === undefined && scheduler.now - watcher.spokeAt < pace.progressMs) return;
    const { revision } = this.#view;
    watcher.isBusy = true;
    watcher.seen = revision;
    watcher.spokeAt = scheduler.now;
    const position = { storeId: store.identity, revision: BigInt(revision), stamp: stamps.of(revision) };
    watcher.sink.send({ ...position, step }, () => {
      watcher.isBusy = false;
      this.#pump(watcher);
    });
  }

  #mustStillWatch({ node, network }: Watcher): void {
    const domain = foreignDomainOf(node);
    if (domain !== undefined && !this.#view.isFederated(domain))
      throw new NotEnrolled('deleted', `there is no federation with ${domain} any more`);
    if (this.#view.node(node)?.deletedAt !== undefined)
      throw new NotEnrolled('deleted', `node "${node}" was deleted`);
    if (!this.#view.isMember(network, node))
      throw new Vl3Error(
        'permission-denied',
        `node "${node}" is not on network "${network}": it must join first`,
      );
  }
}
