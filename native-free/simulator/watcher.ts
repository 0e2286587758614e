// One network's watch on a simulated node: a snapshot, then deltas, then again from the last revision after any break.
// The twin of src/agent/watch.ts.

import { backoffMs } from '../reconcile/backoff.ts';
import type { StorePosition } from '../reconcile/seen-store.ts';
import type { AgentContext } from './agent-context.ts';
import { attempt } from './outcome.ts';
import type { WatchMessage } from './registry-feed.ts';
import type { Timer } from './scheduler.ts';

const FIRST_BACKOFF_MS = 250;

export interface SimulatedWatcherOptions {
  readonly network: string;
  readonly position: () => StorePosition | undefined;
  /** Takes a message; when it fails, the watch starts over from `position`. */
  readonly onMessage: (message: WatchMessage) => void;
  /** The registry says that this node is not on the network. */
  readonly onNoMember: () => void;
}

export class SimulatedWatcher {
  readonly #options: SimulatedWatcherOptions;
  readonly #context: AgentContext;
  #stream: { close(): void } | undefined;
  #failures = 0;
  #again: Timer | undefined;
  /** Nothing has come yet on the stream. */
  #isFresh = false;
  #isClosed = false;

  constructor(options: SimulatedWatcherOptions, context: AgentContext) {
    this.#options = options;
    this.#context = context;
  }

  close(): void {
    this.#isClosed = true;
    this.#stream?.close();
    this.#context.control.watchGaps.left(this.#context.name, this.#options.network);
  }

  open(): void {
    if (this.#isClosed) return;
    const { control, name, identity, enter } = this.#context;
    const { network, position, onMessage } = this.#options;
    this.#isFresh = true;
    this.#stream = control.watch(name, identity(), network, position(), {
      onMessage: (message) =>
        enter(() => {
          this.#failures = 0;
          this.#isFresh = false;
          if (attempt(() => onMessage(message)).ok) return;
          this.#stream?.close();
          this.#later();
        }),
      onEnd: ({ code }) =>
        enter(() => {
          if (code === 'permission-denied') this.#options.onNoMember();
          this.#later();
        }),
    });
  }

  /** The registry answers again: a stream that was asked for meanwhile may be one that it never heard of. */
  registryIsBack(): void {
    this.#failures = 0;
    if (this.#again === undefined && !this.#isFresh) return;
    this.#again?.cancel();
    this.#again = undefined;
    this.#stream?.close();
    this.#later();
  }

  #later(): void {
    this.#isFresh = false;
    // What waited while the process was stopped may fail message by message.
    if (this.#again !== undefined) return;
    const { hooks, later, random, pace } = this.#context;
    if (this.#isClosed || !hooks.watchesAgain) return;
    const backoff = { firstMs: FIRST_BACKOFF_MS, capMs: pace.backoffCapMs };
    const delay = hooks.backoffMs(backoffMs(backoff, this.#failures++, random.fraction()));
    this.#again = later(delay, `opens the watch of ${this.#options.network}`, () => {
      this.#again = undefined;
      this.open();
    });
  }
}
