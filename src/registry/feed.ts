// One watch of the store for all watchers of all networks: it keeps the view current, wakes those whose network
// changed, and makes each step's message once for everyone who stands at the same revision.

import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from 'pino';
import { type NetworkStep, RegistryView } from '../../native-free/registry/view.ts';
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
  readonly #told = new Map<string, () => void>();
  /** By network and revision seen; undefined: nothing changed since that watchers see. */
  readonly #messages = new Map<string, Map<number, SharedMessage | undefined>>();
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
    while (this.view.revision < revision && !signal.aborted) await this.#wait(signal, 1000);
    return !signal.aborted;
  }

  /**
   * The next message for a node that has seen `after` (undefined: nothing), or undefined when nothing changed. Who has been told of
   * itself alone gets the whole once it may.
   */
  next(network: string, node: string, after: number | undefined): SharedMessage | undefined {
    const since = this.view.seesOthersSince(network, node);
    if (since !== undefined)
      return this.#forAll(network, after !== undefined && after < since ? undefined : after);
    const { view } = this;
    const step = after === undefined ? view.snapshot(network, node) : view.since(network, after, node);
    return step && this.#messageOf(step);
  }

  #forAll(network: string, after: number | undefined): SharedMessage | undefined {
    let messages = this.#messages.get(network);
    if (messages === undefined) {
      messages = new Map();
      this.#messages.set(network, messages);
    }
    const key = after ?? -1;
    if (messages.has(key)) return messages.get(key);
    const step = after === undefined ? this.view.snapshot(network) : this.view.since(network, after);
    const message = step && this.#messageOf(step);
    messages.set(key, message);
    return message;
  }

  /** Calls `told` whenever something about the network changed. One a network; undefined: nobody any more. */
  onChange(network: string, told: (() => void) | undefined): void {
    if (told === undefined) this.#told.delete(network);
    else this.#told.set(network, told);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  #messageOf(step: NetworkStep): SharedMessage {
    const position = { storeId: this.#store.identity, stamp: this.#stamps.of(step.revision) };
    return new SharedMessage(watchMessage(position, step));
  }

  #wait(signal: AbortSignal, timeoutMs: number): Promise<void> {
    const waiting = this.#waiting;
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
      this.#told.get(network)?.();
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
      this.#wake([...this.#told.keys()]);
    } catch (error) {
      this.#logger.error({ err: error }, 'the store could not be read');
    }
  }
}
