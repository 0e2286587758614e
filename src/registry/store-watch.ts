// Hands a store's batches to its watchers: first what history holds, then what is published, without a gap between.
// A watcher that falls too far behind is told to read anew instead of being given unbounded memory.

import type { Batch } from '../../native-free/registry/transaction.ts';
import { CompactedError } from './store.ts';

const MAX_QUEUED = 4096;

interface Watcher {
  readonly prefix: string;
  queue: Batch[];
  overflowed: boolean;
  wake: () => void;
}

export interface History {
  readonly revision: number;
  /** Batches at or below this revision are gone. */
  readonly compactedRevision: number;
  batchesAfter(revision: number, prefix: string): Batch[];
}

/** Throws CompactedError unless everything after the revision is still at hand. */
export const checkResumable = (history: History, afterRevision: number): void => {
  if (afterRevision > history.revision) {
    throw new CompactedError(`revision ${afterRevision} is past this store's ${history.revision}`);
  }
  if (afterRevision < history.compactedRevision) {
    throw new CompactedError(
      `history before revision ${history.compactedRevision} is gone, asked for ${afterRevision}`,
    );
  }
};

export class WatchHub {
  readonly #history: History;
  readonly #watchers = new Set<Watcher>();
  #closed = false;

  constructor(history: History) {
    this.#history = history;
  }

  publish(batch: Batch): void {
    for (const watcher of this.#watchers) {
      const changes = batch.changes.filter((change) => change.key.startsWith(watcher.prefix));
      if (changes.length === 0) continue;
      if (watcher.queue.length >= MAX_QUEUED) watcher.overflowed = true;
      else watcher.queue.push({ revision: batch.revision, changes });
      watcher.wake();
    }
  }

  async *watch(prefix: string, afterRevision: number, signal: AbortSignal): AsyncGenerator<Batch> {
    if (this.#closed || signal.aborted) return;
    checkResumable(this.#history, afterRevision);
    const watcher: Watcher = {
      prefix,
      queue: this.#history.batchesAfter(afterRevision, prefix),
      overflowed: false,
      wake: () => {},
    };
    const onAbort = () => watcher.wake();
    signal.addEventListener('abort', onAbort);
    this.#watchers.add(watcher);
    try {
      for (;;) {
        const batches = watcher.queue;
        watcher.queue = [];
        for (const batch of batches) {
          if (this.#closed || signal.aborted) return;
          yield batch;
        }
        if (this.#closed || signal.aborted) return;
        if (watcher.overflowed) throw new CompactedError(`the watcher fell ${MAX_QUEUED} changes behind`);
        if (watcher.queue.length > 0) continue;
        await new Promise<void>((resolve) => {
          watcher.wake = resolve;
        });
      }
    } finally {
      this.#watchers.delete(watcher);
      signal.removeEventListener('abort', onAbort);
    }
  }

  close(): void {
    this.#closed = true;
    for (const watcher of this.#watchers) watcher.wake();
  }
}
