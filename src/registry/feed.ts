// One watch of the store for all watchers of all networks: it keeps the view current, wakes those whose network
// changed, and makes each step's message once for everyone who stands at the same revision.

import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from 'pino';
import { RegistryView } from '../../native-free/registry/view.ts';
import { watchMessage } from './messages.ts';
import type { PositionStamps } from './position-stamps.ts';
import { SharedMessage } from './shared-message.ts';
import { CompactedError, type Store } from './store.ts';

export class Feed implements AsyncDisposable {
  readonly view = new RegistryView();
  readonly #store: Store;
  readonly #stamps: PositionStamps;
  readonly #logger: Logger;
  readonly #stop = new AbortController();
  readonly #waiting = new Set<() => void>();
  readonly #waitingFor = new Map<string, Set<() => void>>();
  readonly #messages = new Map<string, Map<number, SharedMessage>>();
  #running: Promise<void> = Promise.resolve();

  constructor(deps: { readonly store: Store; readonly stamps: PositionStamps; readonly logger: Logger }) {
    this.#store = deps.store;
    this.#stamps = deps.stamps;
    this.#logger = deps.logger;
  }

  /** Resolves once the view holds the present state. */
  async start(): Promise<void> {
    this.view.load(await this.#store.read(RegistryView.reads));
    this.#running = this.#follow();
  }

  /** Resolves once the view holds everything up to the revision; false when the signal aborts first. */
  async caughtUp(revision: number, signal: AbortSignal): Promise<boolean> {
    while (this.view.revision < revision && !signal.aborted) await this.#wait(this.#waiting, signal, 1000);
    return !signal.aborted;
  }

  /** The next message for a watcher that has seen `after` (undefined: nothing), or undefined when nothing changed. */
  next(network: string, after: number | undefined): SharedMessage | undefined {
    let messages = this.#messages.get(network);
    if (messages === undefined) {
      messages = new Map();
      this.#messages.set(network, messages);
    }
    const key = after ?? -1;
    const known = messages.get(key);
    if (known !== undefined) return known;
    const step = after === undefined ? this.view.snapshot(network) : this.view.since(network, after);
    if (step === undefined) return undefined;
    const position = { storeId: this.#store.identity, stamp: this.#stamps.of(step.revision) };
    const message = new SharedMessage(watchMessage(position, step));
    messages.set(key, message);
    return message;
  }

  /** Resolves when something about the network changed, the time is up, or the signal aborts. */
  async changed(network: string, signal: AbortSignal, timeoutMs: number): Promise<void> {
    let waiting = this.#waitingFor.get(network);
    if (waiting === undefined) {
      waiting = new Set();
      this.#waitingFor.set(network, waiting);
    }
    await this.#wait(waiting, signal, timeoutMs);
    if (waiting.size === 0) this.#waitingFor.delete(network);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  #wait(waiting: Set<() => void>, signal: AbortSignal, timeoutMs: number): Promise<void> {
    return new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer);
        signal.removeEventListener('abort', done);
        waiting.delete(done);
        resolve();
      };
      const timer = setTimeout(done, timeoutMs);
      waiting.add(done);
      signal.addEventListener('abort', done);
      if (signal.aborted) done();
    });
  }

  #wake(networks: Iterable<string>): void {
    for (const network of networks) {
      this.#messages.delete(network);
      for (const wake of [...(this.#waitingFor.get(network) ?? [])]) wake();
    }
    for (const wake of [...this.#waiting]) wake();
  }

  async #follow(): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      try {
        for await (const batch of this.#store.watch('/', this.view.revision, signal)) {
          this.#wake(this.view.apply(batch));
        }
      } catch (error) {
        if (signal.aborted) return;
        if (!(error instanceof CompactedError)) {
          this.#logger.error({ err: error }, 'the watch of the store failed');
          await sleep(1000, undefined, { signal }).catch(() => {});
        }
        await this.#reload();
      }
    }
  }

  async #reload(): Promise<void> {
    try {
      this.view.load(await this.#store.read(RegistryView.reads));
      this.#messages.clear();
      this.#wake([...this.#waitingFor.keys()]);
    } catch (error) {
      this.#logger.error({ err: error }, 'the store could not be read');
    }
  }
}
