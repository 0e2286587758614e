// One network's watch: a snapshot, then deltas by revision, then again from the last revision after any break. It only
// carries steps to its owner; what they mean is decided in membership.ts, from verified records alone.

import type { Logger } from 'pino';
import { Vl3Error } from '../../native-free/error.ts';
import { RepeatedReasons } from '../../native-free/repeated-reasons.ts';
import { fromConnectError } from '../api/errors.ts';
import type { WatchNetworkResponse } from '../api/generated/vl3/v1/agent_pb.js';
import type { AgentClient } from '../registry/client.ts';
import { Backoff, pause } from './backoff.ts';

/** A stream that says nothing for this long is dead: the registry sends progress every few seconds. */
const SILENCE_LIMIT_MS = 35_000;

/** After each step of a partner's, of what it took: it has at most a quarter. */
const FOREIGN_REST = 3;

export interface WatchPosition {
  readonly storeId: string;
  readonly revision: bigint;
  /** The registry's own word for both. */
  readonly stamp: Uint8Array;
}

export interface WatchOptions {
  /** As its registry calls it. */
  readonly network: string;
  /** As this node does. */
  readonly key: string;
  /** Another domain's registry may say what it likes, as fast as it likes: it gets a share of this thread's time. */
  readonly isForeign: boolean;
  /** Where to resume; undefined starts with a snapshot. Asked for anew before each connection. */
  readonly position: () => WatchPosition | undefined;
  /** Takes a step; when it throws, the watch starts over from `position`. */
  readonly onStep: (step: WatchNetworkResponse) => void | Promise<void>;
  /** Called with the failure that ended a stream, and with undefined when a stream is up again. */
  readonly onState: (problem: Vl3Error | undefined) => void;
}

export interface WatchDeps {
  readonly client: () => AgentClient;
  readonly logger: Logger;
}

export class NetworkWatch {
  readonly #options: WatchOptions;
  readonly #deps: WatchDeps;
  readonly #backoff = new Backoff({ firstMs: 250, capMs: 15_000 });
  readonly #reasons = new RepeatedReasons();
  /** Ends a stream from which nothing has come yet. */
  #giveUp: (() => void) | undefined;

  constructor(options: WatchOptions, deps: WatchDeps) {
    this.#options = options;
    this.#deps = deps;
  }

  /** The registry answers again: a stream that was asked for meanwhile may be one that it never heard of. */
  registryIsBack(): void {
    this.#backoff.hurry();
    this.#giveUp?.();
  }

  /** Watches until `signal` aborts; never throws. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await this.#follow(signal);
      await this.#backoff.wait(signal);
    }
  }

  async #follow(signal: AbortSignal): Promise<void> {
    const { key, isForeign, onState, onStep } = this.#options;
    const stream = new AbortController();
    let silence: NodeJS.Timeout | undefined;
    const heard = (): void => {
      clearTimeout(silence);
      silence = setTimeout(() => stream.abort(), SILENCE_LIMIT_MS);
    };
    try {
      heard();
      this.#giveUp = () => stream.abort();
      const stop = AbortSignal.any([signal, stream.signal]);
      for await (const step of this.#deps.client().watchNetwork(this.#request(), { signal: stop })) {
        this.#giveUp = undefined;
        heard();
        this.#backoff.reset();
        onState(undefined);
        const began = performance.now();
        await onStep(step);
        // What it says next waits in the connection.
        if (isForeign) await pause((performance.now() - began) * FOREIGN_REST, stop);
      }
    } catch (error) {
      if (signal.aborted) return;
      const problem = stream.signal.aborted
        ? new Vl3Error('unavailable', `the watch of ${key} went silent`)
        : fromConnectError(error);
      onState(problem);
      const { code, message: reason } = problem;
      const again = this.#reasons.take(reason, performance.now());
      if (again !== undefined)
        this.#deps.logger.warn({ network: key, code, reason, again }, 'watch interrupted');
    } finally {
      this.#giveUp = undefined;
      clearTimeout(silence);
      stream.abort();
    }
  }

  #request(): { network: string; storeId: string; afterRevision: bigint; stamp: Uint8Array } {
    const position = this.#options.position();
    return {
      network: this.#options.network,
      storeId: position?.storeId ?? '',
      afterRevision: position?.revision ?? 0n,
      stamp: position?.stamp ?? new Uint8Array(0),
    };
  }
}
