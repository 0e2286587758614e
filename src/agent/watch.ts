// One network's watch: a snapshot, then deltas by revision, then again from the last revision after any break. It only
// carries steps to its owner; what they mean is decided in membership.ts, from verified records alone.

import type { Logger } from 'pino';
import { Vl3Error } from '../../native-free/error.ts';
import { RepeatedReasons } from '../../native-free/repeated-reasons.ts';
import { fromConnectError } from '../api/errors.ts';
import type { WatchNetworkResponse } from '../api/generated/vl3/v1/agent_pb.js';
import type { AgentClient } from '../registry/client.ts';
import { Backoff } from './backoff.ts';

/** A stream that says nothing for this long is dead: the registry sends progress every few seconds. */
const SILENCE_LIMIT_MS = 35_000;

export interface WatchPosition {
  readonly storeId: string;
  readonly revision: bigint;
  /** The registry's own word for both. */
  readonly stamp: Uint8Array;
}

export interface WatchOptions {
  readonly network: string;
  /** Where to resume; undefined starts with a snapshot. Asked for anew before each connection. */
  readonly position: () => WatchPosition | undefined;
  /** Takes a step; when it throws, the watch starts over from `position`. */
  readonly onStep: (step: WatchNetworkResponse) => void | Promise<void>;
  /** Called with the failure that ended a stream, and with undefined when a stream is up again. */
  readonly onState: (problem: Vl3Error | undefined) => void;
}

/** Watches until `signal` aborts; never throws. */
export const watchNetwork = async (
  options: WatchOptions,
  deps: { readonly client: () => AgentClient; readonly logger: Logger },
  signal: AbortSignal,
): Promise<void> => {
  const backoff = new Backoff({ firstMs: 250, capMs: 15_000 });
  const reasons = new RepeatedReasons();
  while (!signal.aborted) {
    const stream = new AbortController();
    const stop = AbortSignal.any([signal, stream.signal]);
    let silence: NodeJS.Timeout | undefined;
    try {
      const position = options.position();
      const request = {
        network: options.network,
        storeId: position?.storeId ?? '',
        afterRevision: position?.revision ?? 0n,
        stamp: position?.stamp ?? new Uint8Array(0),
      };
      const heard = (): void => {
        clearTimeout(silence);
        silence = setTimeout(() => stream.abort(), SILENCE_LIMIT_MS);
      };
      heard();
      for await (const step of deps.client().watchNetwork(request, { signal: stop })) {
        heard();
        backoff.reset();
        options.onState(undefined);
        await options.onStep(step);
      }
    } catch (error) {
      if (signal.aborted) break;
      const problem = stream.signal.aborted
        ? new Vl3Error('unavailable', `the watch of ${options.network} went silent`)
        : fromConnectError(error);
      options.onState(problem);
      const { code, message: reason } = problem;
      const again = reasons.take(reason, performance.now());
      if (again !== undefined)
        deps.logger.warn({ network: options.network, code, reason, again }, 'watch interrupted');
    } finally {
      clearTimeout(silence);
      stream.abort();
    }
    await backoff.wait(signal);
  }
};
