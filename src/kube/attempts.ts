// Work that is done beside other work, each piece under a key: not twice at once, and not again at once, least of all when it
// failed.

import { backoffMs } from '../../native-free/reconcile/backoff.ts';

export interface AttemptsDeps {
  /** Milliseconds that only grow. */
  readonly now: () => number;
  /** One has ended, well or not. */
  readonly ended: () => void;
  readonly failed: (error: unknown) => void;
}

const RETRY = { firstMs: 1_000, capMs: 60_000 };
/** Work that is called for again and again though it was done. */
const REST_MS = 500;
/** Nobody came back to it. */
const FORGOTTEN_MS = 600_000;

interface Past {
  /** In a row. */
  readonly failures: number;
  readonly dueAt: number;
}

export class Attempts {
  readonly #deps: AttemptsDeps;
  readonly #running = new Set<string>();
  readonly #past = new Map<string, Past>();

  constructor(deps: AttemptsDeps) {
    this.#deps = deps;
  }

  get isBusy(): boolean {
    return this.#running.size > 0;
  }

  /** Starts it unless it runs; false: it is too soon, or `may` says so: come back later. Never throws. */
  start(key: string, work: () => Promise<void>, may: () => boolean = () => true): boolean {
    if (this.#running.has(key)) return true;
    if ((this.#past.get(key)?.dueAt ?? 0) > this.#deps.now() || !may()) return false;
    this.#running.add(key);
    void this.#run(key, work);
    return true;
  }

  async #run(key: string, work: () => Promise<void>): Promise<void> {
    const { now, failed, ended } = this.#deps;
    try {
      await work();
      this.#past.set(key, { failures: 0, dueAt: now() + REST_MS });
    } catch (error) {
      const failures = (this.#past.get(key)?.failures ?? 0) + 1;
      this.#past.set(key, { failures, dueAt: now() + backoffMs(RETRY, failures - 1, Math.random()) });
      failed(error);
    } finally {
      this.#running.delete(key);
      for (const [one, { dueAt }] of this.#past) if (now() - dueAt > FORGOTTEN_MS) this.#past.delete(one);
      ended();
    }
  }
}
