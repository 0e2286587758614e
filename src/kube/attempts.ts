// Work that is done beside other work, each piece under a key: not twice at once, and what failed not again at once.

import { backoffMs } from '../../native-free/reconcile/backoff.ts';

export interface AttemptsDeps {
  /** Milliseconds that only grow. */
  readonly now: () => number;
  /** One has ended, well or not. */
  readonly ended: () => void;
  readonly failed: (error: unknown, key: string) => void;
}

const RETRY = { firstMs: 1_000, capMs: 60_000 };
/** A failure that nobody came back to is forgotten. */
const FORGOTTEN_MS = 10 * RETRY.capMs;

interface Failure {
  readonly count: number;
  readonly dueAt: number;
}

export class Attempts {
  readonly #deps: AttemptsDeps;
  readonly #running = new Set<string>();
  readonly #failures = new Map<string, Failure>();

  constructor(deps: AttemptsDeps) {
    this.#deps = deps;
  }

  get isBusy(): boolean {
    return this.#running.size > 0;
  }

  /** Starts it unless it runs or failed too lately. Never throws. */
  start(key: string, work: () => Promise<void>): void {
    const now = this.#deps.now();
    if (this.#running.has(key) || (this.#failures.get(key)?.dueAt ?? 0) > now) return;
    this.#running.add(key);
    void this.#run(key, work);
  }

  async #run(key: string, work: () => Promise<void>): Promise<void> {
    try {
      await work();
      this.#failures.delete(key);
    } catch (error) {
      const count = (this.#failures.get(key)?.count ?? 0) + 1;
      const dueAt = this.#deps.now() + backoffMs(RETRY, count - 1, Math.random());
      this.#failures.set(key, { count, dueAt });
      this.#deps.failed(error, key);
    } finally {
      this.#running.delete(key);
      this.#forget();
      this.#deps.ended();
    }
  }

  #forget(): void {
    const now = this.#deps.now();
    for (const [key, { dueAt }] of this.#failures) if (now - dueAt > FORGOTTEN_MS) this.#failures.delete(key);
  }
}
